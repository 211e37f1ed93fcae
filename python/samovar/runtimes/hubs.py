"""What the runtimes of folders from a model hub have in common: no network, weights that run no code, texts, images."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samovar.errors import TargetError
from samovar.runtimes import Question
from samovar.runtimes.contents import foreign
from samovar.runtimes.files import check_trust
from samovar.runtimes.images import opened
from samovar.runtimes.tables import texts

__all__ = [
    "check_weights",
    "go_offline",
    "has_weights",
    "images",
    "json_of",
    "text_array",
    "text_list",
    "weights_of",
]

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
_QUIET = ("HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_NO_ADVISORY_WARNINGS")
_LENGTH_BYTES = 8  # of the head of a safetensors file: https://huggingface.co/docs/safetensors#format
_AGAIN = "fetch the folder again"
_EXPORTS = ("*.onnx", "openvino_model.xml")  # what optimum writes in place of weights
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def go_offline() -> None:
    """Keep the libraries of the hub from the network, those that a spare worker has imported too."""
    import sys

    os.environ.update(dict.fromkeys((*_OFFLINE, *_QUIET), "1"))
    constants: Any = sys.modules.get("huggingface_hub.constants")
    if constants is not None:  # it has read the environment already
        constants.HF_HUB_OFFLINE = True


def json_of(folder: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of a folder, empty where there is none. Raises TargetError for anything else in it."""
    file = folder / name
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise TargetError(f"{name} in {folder.name} cannot be read: {error}", _AGAIN) from None
    if not isinstance(found, dict):
        raise TargetError(f"{name} in {folder.name} holds {type(found).__name__}, no object", _AGAIN)
    return found


def has_weights(folder: Path, pickled: str) -> bool:
    """True where there are weights in a folder itself; `pickled` is the pattern of the names of such pickles."""
    return any(folder.glob("*.safetensors")) or bool(_pickles(folder, pickled))


def weights_of(folder: Path, pickled: str) -> tuple[list[Path], bool]:
    """The files with the weights of a folder, and whether they are pickles, which beside safetensors are not read.

    Raises TargetError where there are neither.
    """
    safe = sorted(folder.glob("*.safetensors"))
    found = safe or _pickles(folder, pickled)
    if not found:
        exported = next((file for kind in _EXPORTS for file in sorted(folder.rglob(kind))), None)
        raise TargetError(
            f"{folder.name} has no weights in it",
            "put model.safetensors there, as save_pretrained writes it"
            if exported is None
            else f"serve what was exported of it: samovar serve {exported}",
        )
    return found, not safe


def _pickles(folder: Path, pattern: str) -> list[Path]:
    return sorted(file for file in folder.glob(pattern) if file.suffix in _PICKLES)


def check_weights(question: Question, files: Sequence[Path], *, is_pickled: bool) -> None:
    """Refuse pickles that are not trusted, and files that are cut off. Raises UnsafeFormatError or TargetError."""
    if is_pickled:
        kind = f"a folder whose weights, {files[0].name}, are a Python pickle"
        check_trust(question, kind, "save it with save_pretrained, which writes safetensors")
        return
    for file in files:
        _check_safetensors(file)


def _check_safetensors(file: Path) -> None:
    fault = foreign(file)
    if fault is not None:
        raise TargetError(f"{fault.message}, no safetensors", fault.next_step)
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
        head = opened.read(length) if length <= size else b""
    try:
        tensors = json.loads(head)
        ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise TargetError(f"{file.name} is no safetensors file, or cut off in its head", _AGAIN) from None
    wanted = _LENGTH_BYTES + length + max(ends, default=0)
    if size < wanted:
        raise TargetError(f"{file.name} is cut off: it has {size} bytes of {wanted}", _AGAIN)


def text_list(name: str, array: Any) -> list[str]:
    """The texts of an input of BYTES. Raises InvalidInputError for what is not UTF-8."""
    return list(texts(name, array).ravel())


def text_array(values: Sequence[str]) -> Any:
    """Texts as an output of BYTES has them."""
    import numpy as np

    return np.array([value.encode() for value in values], object)


def images(name: str, array: Any) -> list[Any]:
    """The pictures in an input of BYTES, upright and in RGB: files, or their base64. Raises InvalidInputError."""
    return list(opened(name, array))
