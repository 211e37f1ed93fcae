"""How images are prepared, as samovar.toml and image processors write it.

The keys of a `preprocessor_config.json`: https://huggingface.co/docs/transformers/main_classes/image_processor
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from samovar.config.options import close_match
from samovar.errors import ConfigError
from samovar.runtimes.images import CHANNELS, LAYOUTS, RESAMPLES

__all__ = ["FILE", "checked", "read_processor"]

FILE = "preprocessor_config.json"
_MAX_LENGTH = 16_384
_MAX_BYTES = 1 << 20
_DECLARE = "declare resize or crop, mean and std in samovar.toml: preprocess = { resize = 256, crop = 224, mean = ... }"
# Processors that do what their keys say, compared with those of transformers 5.23: of others, such as Levit's and
# EfficientNet's, some of the numbers stand in their code. To the first a size of one number is the shorter side.
_SHORTER_SIDE = ("Bit", "CLIP", "ChineseCLIP", "ConvNext", "MobileNetV1", "MobileNetV2")
_BOTH_SIDES = ("Beit", "Blip", "DeiT", "OwlViT", "Pvt", "Segformer", "Siglip", "ViT")
_TYPE = re.compile(r"(.+?)(?:ImageProcessor(?:Fast|Pil)?|FeatureExtractor)")
_OTHERS = ("do_pad", "do_flip_channel_order", "size_divisor")  # what changes pixels and is none of our keys


def checked(table: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The keys of `preprocess` in samovar.toml, sizes as tuples. Raises ConfigError."""
    for key, value in table.items():
        if key not in _KEYS:
            raise ConfigError(f'unknown key "{key}" in preprocess of {file}', close_match(key, _KEYS))
        fits, wanted = _KEYS[key]
        if not fits(value):
            raise ConfigError(f"preprocess.{key} of {file} is {value!r}", f"it wants {wanted}")
    pairs = {key: tuple(value) for key, value in table.items() if key in ("resize", "crop") and type(value) is list}
    square = {key: (value, value) for key, value in table.items() if key == "crop" and type(value) is int}
    return {**table, **pairs, **square}


def read_processor(file: Path) -> dict[str, Any]:
    """The same keys, of an image processor's file. Raises ConfigError for what they cannot say."""
    content = _content(file)
    others = [key for key in _OTHERS if content.get(key)]
    if others:
        raise ConfigError(f'{file} sets "{others[0]}", which preprocess does not know', _DECLARE)
    found: dict[str, Any] = {**_sizes(content, _kind(content, file), file), "scale": 1.0}
    if content.get("do_rescale", True):
        found["scale"] = content.get("rescale_factor", 1 / 255)
    if content.get("do_normalize", True) and "image_mean" in content and "image_std" in content:
        found |= {"mean": content["image_mean"], "std": content["image_std"]}
    number = content.get("resample")
    if number is not None and content.get("do_resize", True):
        found["resample"] = RESAMPLES[number] if type(number) is int and 0 <= number < len(RESAMPLES) else number
    return checked(found, str(file))


def _content(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", "put it there again") from None
    if not isinstance(content, dict) or content.keys().isdisjoint(("size", "crop_size", "image_mean", "do_resize")):
        raise ConfigError(f"{file} is not of an image processor", _DECLARE)
    return content


def _kind(content: Mapping[str, Any], file: Path) -> str | None:
    """The processor: ViT, for instance; None where the file does not say. Raises ConfigError for an unknown one."""
    said = content.get("image_processor_type", content.get("feature_extractor_type"))
    if said is None:
        return None
    parts = _TYPE.fullmatch(said) if isinstance(said, str) else None
    if parts is None or parts[1] not in (*_SHORTER_SIDE, *_BOTH_SIDES):
        raise ConfigError(f"{file} is of {said}, which may do more than its keys say", _DECLARE)
    return parts[1]


def _sizes(content: Mapping[str, Any], kind: str | None, file: Path) -> dict[str, Any]:
    """`resize` and `crop`."""
    is_cropped = bool(content.get("do_center_crop"))
    found: dict[str, Any] = {}
    if content.get("do_resize", True) and "size" in content:
        is_square = kind in _BOTH_SIDES if kind else not is_cropped
        found["resize"] = _size(content["size"], file, is_square=is_square)
    if is_cropped:
        found["crop"] = _size(content.get("crop_size", content.get("size")), file, is_square=True)
    share, edge = content.get("crop_pct", 224 / 256 if kind == "ConvNext" else None), found.get("resize")
    if share and type(edge) is int:  # of ConvNeXt: its small images are cropped, its large ones warped
        found |= {"resize": int(edge / share), "crop": [edge, edge]} if edge < 384 else {"resize": [edge, edge]}
    elif share:
        raise ConfigError(f'{file} sets "crop_pct", which preprocess knows beside size.shortest_edge alone', _DECLARE)
    return found


def _size(value: Any, file: Path, *, is_square: bool) -> Any:
    if isinstance(value, dict) and value.keys() == {"height", "width"}:
        return [value["height"], value["width"]]
    if isinstance(value, dict) and value.keys() == {"shortest_edge"}:
        return value["shortest_edge"]
    if type(value) is int:
        return [value, value] if is_square else value
    raise ConfigError(f"{file} has the size {value!r}, which preprocess does not know", _DECLARE)


def _is_length(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MAX_LENGTH


def _is_size(value: Any) -> bool:
    return _is_length(value) or (type(value) is list and len(value) == 2 and all(map(_is_length, value)))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _are_numbers(value: Any) -> bool:
    return _is_number(value) or (type(value) is list and len(value) > 0 and all(map(_is_number, value)))


def _are_divisors(value: Any) -> bool:
    return _are_numbers(value) and 0 not in (value if type(value) is list else [value])


def _word(*words: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: type(value) is str and value in words), f"one of {', '.join(words)}"


_SIZE = f"[height, width], or one length, each up to {_MAX_LENGTH}"
_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "input": (lambda value: type(value) is str and value != "", "the name of an input"),
    "resize": (_is_size, f"{_SIZE}, that of the shorter side"),
    "resample": _word(*RESAMPLES),
    "crop": (_is_size, _SIZE),
    "channels": _word(*CHANNELS),
    "scale": (_is_number, "what pixels of 0 to 255 are multiplied by"),
    "mean": (_are_numbers, "a number, or one for each channel"),
    "std": (_are_divisors, "a number other than 0, or one for each channel"),
    "layout": _word(*LAYOUTS),
}
