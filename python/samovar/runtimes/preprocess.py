"""Images in the place of an input of pixels, for the models of every runtime: declared in samovar.toml."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from samovar.errors import ConfigError
from samovar.runtimes import Arrays, LoadedModel, Question
from samovar.runtimes.images import CHANNELS, LAYOUTS, Images, Preparation
from samovar.runtimes.processors import FILE, checked, read_processor
from samovar.types import Datatype

__all__ = ["ImageModel", "load_with_images", "with_images"]

_IMAGE = "image"
_PIXELS = ("FP32", "FP16", "FP64", "UINT8")
_DEFAULTS = {"resize": None, "resample": "bilinear", "crop": None, "scale": 1 / 255, "mean": 0.0, "std": 1.0}


def with_images(question: Question, model: dict[str, Any]) -> dict[str, Any]:
    """The description of a model that takes images in the place of their pixels, where that is declared.

    A runtime whose file carries such a declaration leaves it, as samovar.toml completes it, in `source`. Where there is
    none, and a file beside the model says how images are prepared, a note tells of that. Raises ConfigError.
    """
    source = dict(model["source"])
    declared = source.pop("preprocess", question.declared.preprocess)
    model = {**model, "source": source}
    file = _processor(question.path)
    if declared is None or declared is False:  # an empty table leaves all to the defaults
        return model if declared is False or file is None else _with_hint(model)
    settings = dict(checked(declared, question.path.name)) if isinstance(declared, dict) else {}
    if file is not None:
        settings = {**_of_file(file, settings), **settings}
    elif declared is True:
        raise ConfigError(
            f"preprocess = true is set for {question.path.name}, but no {FILE} lies beside it",
            "put it there, or write a table: preprocess = { resize = [224, 224] }",
        )
    place = _place(model, settings.pop("input", None))
    pixels = model["inputs"][place]
    others = [tensor["name"] for tensor in model["inputs"] if tensor is not pixels]
    name = pixels["name"] if _IMAGE in others else _IMAGE
    inputs = list(model["inputs"])
    inputs[place] = {"name": name, "datatype": Datatype.BYTES.name, "dims": pixels["dims"][:-3]}
    settings = {"place": place, "input": pixels, **asdict(_preparation(pixels, settings))}
    source["preprocess"] = settings
    return {**model, "inputs": inputs, "imports": [*model["imports"], "PIL.Image"]}


def load_with_images(spec: dict[str, Any], load: Callable[[dict[str, Any]], LoadedModel]) -> "ImageModel":
    """Make the model of a description of `with_images`; `load` is that of its runtime. Raises what that raises."""
    settings = dict(spec["source"]["preprocess"])
    place, pixels = settings.pop("place"), settings.pop("input")
    inputs = list(spec["inputs"])
    name, inputs[place] = inputs[place]["name"], pixels
    tuples: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    images = Images(name, Datatype[pixels["datatype"]], Preparation(**tuples))
    return ImageModel(load({**spec, "inputs": inputs}), images, place)


class ImageModel:
    """A model whose input in this `place` is made of images."""

    def __init__(self, model: LoadedModel, images: Images, place: int) -> None:
        self.is_async = model.is_async
        self.streams = model.streams
        self.is_user_code = model.is_user_code
        self.samples = model.samples
        self.blanks = {images.name: images.blank}
        self._model = model
        self._images = images
        self._place = place

    def start(self) -> Awaitable[None] | None:
        """As of the model itself."""
        return self._model.start()

    def close(self) -> Awaitable[None] | None:
        """As of the model itself."""
        return self._model.close()

    def predict(self, inputs: Arrays) -> Any:
        """Run one call on prepared images. Raises InvalidInputError for what is none, and what the model raises."""
        prepared = list(inputs)
        prepared[self._place] = self._images.pixels(inputs[self._place])
        return self._model.predict(prepared)


def _processor(path: Path) -> Path | None:
    file = (path if path.is_dir() else path.parent) / FILE
    return file if file.is_file() else None


def _of_file(file: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a processor's file says; one that cannot be followed is left alone where samovar.toml says the whole."""
    try:
        return read_processor(file)
    except ConfigError:
        if {"mean", "std"} <= settings.keys() and not settings.keys().isdisjoint(("resize", "crop")):
            return {}
        raise


def _with_hint(model: dict[str, Any]) -> dict[str, Any]:
    """A model that seems to take what the file beside it tells how to make."""
    found = [tensor for tensor in model["inputs"] if _may_be_pixels(tensor) and _layout(tensor["dims"]) is not None]
    if "class" in model["source"] or len(found) != 1:
        return model
    hint = f'preprocess = true in samovar.toml makes "{found[0]["name"]}" of images, as {FILE} beside the model says'
    note = model["source"].get("note")
    return {**model, "source": {**model["source"], "note": f"{note}; {hint}" if note else hint}}


def _may_be_pixels(tensor: Mapping[str, Any]) -> bool:
    return tensor["datatype"] in _PIXELS and tensor["dims"] is not None and len(tensor["dims"]) >= 3


def _layout(dims: Sequence[int]) -> str | None:
    """Where the channels stand; None where both places, or none, have their number."""
    found = [layout for layout in LAYOUTS if dims[_channel_axis(layout)] in CHANNELS.values()]
    return found[0] if len(found) == 1 else None


def _channel_axis(layout: str) -> int:
    return -3 if layout == "NCHW" else -1


def _place(model: Mapping[str, Any], name: str | None) -> int:
    """Which input the images become. Raises ConfigError."""
    inputs = model["inputs"]
    found = [i for i, tensor in enumerate(inputs) if _may_be_pixels(tensor) and name in (None, tensor["name"])]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f'"{tensor["name"]}"' for tensor in inputs) or "none"
    if found:
        raise ConfigError(
            f'preprocess is set for model "{model["name"]}", of which {len(found)} inputs may be pixels',
            f"name one of them: preprocess.input, of {names}",
        )
    which = "no input" if name is None else f'no input "{name}"'
    raise ConfigError(
        f'preprocess is set for model "{model["name"]}", which has {which} of pixels: three axes or more, '
        f"{', '.join(_PIXELS)}",
        f"its inputs are {names}; declare what its file does not say: "
        'inputs = [{ name = "x", datatype = "FP32", shape = ["batch", 3, 224, 224] }]',
    )


def _preparation(pixels: Mapping[str, Any], settings: dict[str, Any]) -> Preparation:
    """What is declared, completed by what the input says. Raises ConfigError where they contradict each other."""
    where = f'of input "{pixels["name"]}", {pixels["datatype"]} {pixels["dims"]}'
    layout = settings.pop("layout", None) or _layout(pixels["dims"])
    if layout is None:
        raise ConfigError(f"preprocess cannot tell the layout {where}", 'write preprocess.layout = "NCHW" or "NHWC"')
    length = pixels["dims"][_channel_axis(layout)]
    channels = settings.pop("channels", "L" if length == 1 else "RGB")
    if length not in (-1, CHANNELS[channels]):
        raise ConfigError(
            f"preprocess makes {CHANNELS[channels]} channels of {channels}, in the layout {layout}, but not {length} "
            f"{where}",
            f"correct preprocess.channels ({', '.join(CHANNELS)}) or preprocess.layout",
        )
    if pixels["datatype"] == Datatype.UINT8.name:
        said = [key for key in ("scale", "mean", "std") if key in settings]
        if said:
            raise ConfigError(f"preprocess.{said[0]} is set {where}, which takes bytes", "leave it out")
    numbers = {key: settings.pop(key, _DEFAULTS[key]) for key in ("mean", "std")}
    for key, value in numbers.items():
        numbers[key] = tuple(value) if isinstance(value, list) else (value,) * CHANNELS[channels]
        if len(numbers[key]) != CHANNELS[channels]:
            raise ConfigError(
                f"preprocess.{key} has {len(numbers[key])} numbers for the {CHANNELS[channels]} channels {where}",
                "give one number, or one for each channel",
            )
    height, width = pixels["dims"][-2:] if layout == "NCHW" else pixels["dims"][-3:-1]
    found = Preparation(**{**_DEFAULTS, **settings, **numbers, "channels": channels, "layout": layout})
    return _of_size(found, height, width, where)


def _of_size(found: Preparation, height: int, width: int, where: str) -> Preparation:
    """The preparation that ends with images of one size, that of the model where it has one. Raises ConfigError."""
    if found.size is None and -1 not in (height, width):
        size = height, width
        return replace(found, resize=size) if found.resize is None else replace(found, crop=size)
    if found.size is None:
        raise ConfigError(
            f"preprocess leaves images of several sizes, which are no batch {where}",
            "write preprocess.resize = [height, width], or preprocess.crop",
        )
    if any(length not in (-1, made) for length, made in zip((height, width), found.size, strict=True)):
        raise ConfigError(
            f"preprocess makes images of {found.size[0]} x {found.size[1]} (height x width) {where}",
            "correct preprocess.resize or preprocess.crop",
        )
    return found
