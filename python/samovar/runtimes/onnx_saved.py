"""Graphs that onnxruntime has optimised, kept in a file for faster starts.

Such a file ends with a mark of what it was made from: an entry of the metadata, of which a message may have more at
any place (metadata_props of ModelProto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from samovar.errors import ConfigError, LoadError, TargetError, text_of

__all__ = ["check", "mark_of", "written"]

_KEY = b"samovar.optimized"
_METADATA, _ENTRY_KEY, _ENTRY_VALUE = (number << 3 | 2 for number in (14, 1, 2))
_DIGEST = 64
_OPENING = bytes([_METADATA, 2 + len(_KEY) + 2 + _DIGEST, _ENTRY_KEY, len(_KEY)]) + _KEY
# How a tensor of onnx.proto says in which file its data is: external_data, whose value follows as varint and text.
_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?[\x00-\x7f])", re.DOTALL)


def check(path: Path, options: dict[str, Any]) -> None:
    """Raise ConfigError where the option names a file that must not be written, or cannot be."""
    place = _place(path, options)
    said = f'runtime option "save_optimized" of {path.name} is {options["save_optimized"]!r}'
    if options["optimization"] == "disabled":
        raise ConfigError(f"{said}, but optimization is disabled", "leave one of them out")
    if place.name.startswith("model."):  # what a repository takes for the file of a version
        raise ConfigError(f"{said}, a name that model files have", 'name it "optimized.onnx", for instance')
    if place.exists() and _OPENING not in _end(place):
        raise ConfigError(f"{said}, a file that is there and was not saved by this option", "name one that is new")
    if place.parent.resolve() != path.parent.resolve() and any(_weights(path)):  # the saved graph refers to them too
        raise ConfigError(f"{said}, but the weights of the model are in files beside it", "name a file beside it too")
    if not os.access(place.parent, os.W_OK):
        raise ConfigError(f"{said}, but {place.parent} cannot be written to", "name a file in a folder that can")


def mark_of(path: Path, options: dict[str, Any], version: str) -> bytes:
    """What stands at the end of a file that was made from this model, in this way, by this onnxruntime."""
    files = [path, *sorted(_weights(path))]
    stats = [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in (file.stat(),)]
    facts = (stats, options["optimization"], options["providers"], version)
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()
    return _OPENING + bytes([_ENTRY_VALUE, _DIGEST]) + digest.encode()


def written(path: Path, options: dict[str, Any], mark: bytes, save: Callable[[Path], Any]) -> Path:
    """The saved file; `save` writes it where there is none with this mark. Raises LoadError."""
    place = _place(path, options)
    if _end(place) == mark:
        return place
    part = place.with_name(f".{place.name}.{os.getpid()}")  # several instances may be at it
    try:
        save(part)
        with part.open("ab") as file:
            file.write(mark)
        part.replace(place)
    except (OSError, TargetError) as error:
        raise LoadError(
            f"the optimised {path.name} cannot be saved as {place}: {text_of(error)}", "leave save_optimized out"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return place


def _place(path: Path, options: dict[str, Any]) -> Path:
    name: str = options["save_optimized"]
    return path.parent / name


def _end(place: Path) -> bytes:
    """The last bytes, as many as a mark has; none of a file that is not there."""
    try:
        with place.open("rb") as file:
            file.seek(-len(_OPENING) - 2 - _DIGEST, os.SEEK_END)
            return file.read()
    except OSError:
        return b""


def _weights(path: Path) -> Iterator[Path]:
    """Files beside the model that hold its weights."""
    import mmap

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names = set()
        for found in _LOCATION.finditer(content):
            size = found[1][0] & 0x7F | (found[1][1] << 7 if len(found[1]) > 1 else 0)
            names.add(bytes(content[found.end() : found.end() + size]))
    for name in names:
        place = path.parent / os.fsdecode(name)
        if b"\0" not in name and place.is_file():
            yield place
