"""Runtime of folders with the networks of an EasyOCR reader, by torch: the texts in an image.

The files of a reader: https://www.jaided.ai/easyocr/documentation, and of a network of one's own:
https://github.com/JaidedAI/EasyOCR/blob/master/custom_model.md
"""

from pathlib import Path
from typing import Any

from samovar.config.declared import Declared
from samovar.errors import ConfigError, InvalidInputError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import peek
from samovar.runtimes.files import FileModel, check_options, check_trust, describe, imported, runtime_options
from samovar.runtimes.hubs import images, text_array
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.runtimes.torchmodel import DEVICE, device_of, use_threads
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("easyocr", "numpy", "torch")
ABOUT = About(
    "EasyOCR readers",
    extra="easyocr",
    recognised_by="folder with craft_mlt_25k.pth, or with NAME.yaml that has character_list, and NAME.pth",
    signature_from="what every reader takes and gives",
    safety="EasyOCR's own networks: safe, by their checksums; a network of one's own: --trust",
)

_CRAFT = "craft_mlt_25k.pth"
_IMAGE = "image"
_STANDARD = "standard"
_NONE = "none"
_OPTIONS: dict[str, Any] = {
    **DEVICE,
    "languages": ["en"],
    "network": _STANDARD,
    "detector": ("craft", _NONE),
    "decoder": ("greedy", "beamsearch", "wordbeamsearch"),
    "allowlist": None,
    "quantise": True,
}


def recognise(path: Path) -> Sure:
    """Folders with the detector of EasyOCR, or with a network of one's own."""
    if not path.is_dir():
        return Sure.NO
    return Sure.LIKELY if (path / _CRAFT).is_file() or _networks(path) else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a reader. Raises TargetError, ConfigError, or UnsafeFormatError for a network of one's own."""
    path = question.path
    options = _with_network(path, runtime_options(question, _OPTIONS), question.declared)
    _check_languages(path, options["languages"])
    _check_network(question, options["network"])
    tensors = [
        FileTensor("texts", Datatype.BYTES, (-1,)),
        FileTensor("boxes", Datatype.FP32, (-1, 4, 2)),
        FileTensor("confidences", Datatype.FP32, (-1,)),
    ]
    return [
        describe(
            question,
            "easyocr",
            signature_of(path.name, [FileTensor(_IMAGE, Datatype.BYTES, (1,))], tensors, question.declared),
            question.declared.options,
            IMPORTS,
            read_from=f"what every reader gives, with the network {options['network']}",
            note="one image at a time: each has its own number of texts",
            runtime_options=options,
            **({"trusted": True} if question.declared.trust else {}),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load the networks of a reader. Raises TargetError, ConfigError or UnsafeFormatError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    options = spec["source"]["runtime_options"]
    trust = Declared(trust=spec["source"].get("trusted", False))
    _check_network(Question(path, name=spec["name"], version=spec["version"], declared=trust), options["network"])
    use_threads(spec["options"]["threads"])
    reader = _reader(path, options)
    settings = {"decoder": options["decoder"], "allowlist": options["allowlist"]}
    read = reader.recognize if options["detector"] == _NONE else reader.readtext

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        pixels = np.asarray(images(_IMAGE, inputs[_IMAGE])[0])
        if min(pixels.shape[:2]) < 2:
            raise InvalidInputError(f'input "{_IMAGE}" is of {pixels.shape[1]} x {pixels.shape[0]} points', "send more")
        found = read(pixels, **settings)
        return {
            "texts": text_array([text for _, text, _ in found]),
            "boxes": np.array([box for box, _, _ in found], np.float32).reshape(-1, 4, 2),
            "confidences": np.array([confidence for _, _, confidence in found], np.float32),
        }

    model = FileModel(Signature.from_json(spec), run)
    model.samples = list  # none: what a sample would cost depends on the texts in it
    return model


def _networks(path: Path) -> list[str]:
    """Names of the networks of one's own in a folder."""
    files = [file for file in sorted(path.glob("*.yaml")) if file.with_suffix(".pth").is_file()]
    return [file.stem for file in files if b"character_list" in peek(file, 65_536)]


def _with_network(path: Path, options: dict[str, Any], declared: Declared) -> dict[str, Any]:
    """Where nobody says which network, the only one that is there."""
    networks = _networks(path)
    if len(networks) == 1 and "network" not in declared.runtime_options:
        options["network"] = networks[0]
    if "detector" not in declared.runtime_options and not (path / _CRAFT).is_file():
        options["detector"] = _NONE  # the whole image is one line of text
    return options


def _check_languages(path: Path, languages: list[Any]) -> None:
    if not languages or not all(isinstance(language, str) for language in languages):
        raise ConfigError(
            f'runtime option "languages" of {path.name} is {languages!r}', 'it wants a list of names: ["en", "de"]'
        )


def _check_network(question: Question, network: str) -> None:
    """A network of one's own is a Python file, and weights that are a pickle; others are known by their checksum."""
    path = question.path
    if (path / f"{network}.yaml").is_file():
        check_trust(question, f"a reader with {network}.py and {network}.pth", "use a network of EasyOCR's own")
        missing = [file for file in (f"{network}.py", f"{network}.pth") if not (path / file).is_file()]
        if missing:
            raise TargetError(f"{path.name} has {network}.yaml, but no {missing[0]}", "put it there")


def _reader(path: Path, options: dict[str, Any]) -> Any:
    import sys

    easyocr = imported("easyocr", ABOUT)
    device = device_of(path, options)
    before = list(sys.path)
    try:
        return easyocr.Reader(
            options["languages"],
            gpu=device.type != "cpu" and str(device),
            model_storage_directory=str(path),
            user_network_directory=str(path),
            recog_network=options["network"],
            detector=options["detector"] != _NONE,
            download_enabled=False,
            quantize=options["quantise"],
            verbose=False,
        )
    except Exception as error:
        raise TargetError(
            f"{path.name} is no folder of a reader for {', '.join(options['languages'])}: {text_of(error)}",
            "put the files there that EasyOCR has fetched, or name the network of your own: "
            'runtime_options = { network = "..." }',
        ) from error
    finally:
        sys.path[:] = before  # the reader adds the folder, whose files nothing else shall import
