"""What a class uses, as data: of each handle where the model is, for the control plane to find or load."""

import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from samovar.errors import TargetError
from samovar.model import declaration_of
from samovar.runtimes import is_model_folder, runtime_for
from samovar.service.uses import Use, uses_of

__all__ = ["described_uses", "place_of"]

_PROGRAM = ".py"


def described_uses(cls: type) -> dict[str, dict[str, Any]]:
    """By attribute: `kind` (class, file or name), `path`, `class`, `name`, `version`, and `declared` of a file.

    Raises TargetError.
    """
    return {attribute: _described(cls, used) for attribute, used in uses_of(cls).items()}


def place_of(used: Use) -> Path | None:
    """The path that a handle names, with the class in it if it names one; None where it names a model.

    A path is what pathlib made, what has a slash or the suffix of a format, and what lies beside the file.
    """
    text = str(used.target)
    place = used.folder / text
    is_path = not isinstance(used.target, str) or "/" in text or _has_format(text) or _is_model(place)
    return place if is_path else None


def _described(cls: type, used: Use) -> dict[str, Any]:
    declared = used.declared.to_json()
    if isinstance(used.target, type):
        _refuse_settings(cls, used, declared, f"class {used.target.__name__}")
        return _described_class(cls, used.target, used.version)
    place = place_of(used)
    if place is None:
        _refuse_settings(cls, used, declared, f'"{used.target}", a model of another target')
        return {"kind": "name", "path": None, "class": None, "name": str(used.target), "version": used.version}
    path, class_name = _parts(str(place))
    if path.endswith(_PROGRAM):
        _refuse_settings(cls, used, declared, f"a class of {Path(path).name}")
    found = {"kind": "file", "path": path, "class": class_name, "name": None, "version": used.version}
    return {**found, "declared": declared} if declared else found


def _refuse_settings(cls: type, used: Use, declared: Mapping[str, Any], of: str) -> None:
    """A file alone cannot say all of itself, and is served because it is used."""
    if declared:
        raise TargetError(
            f'{cls.__name__} ({used.attribute}) sets "{next(iter(declared))}" of {of}',
            "samovar.use has settings for model files alone: write it into the decorator, or [models.NAME] of "
            "samovar.toml",
        )


def _described_class(cls: type, target: type, version: str | None) -> dict[str, Any]:
    """A class is used in the version that it says of itself."""
    declaration = declaration_of(target)
    file = getattr(sys.modules.get(target.__module__), "__file__", None)
    assert declaration is not None, "samovar.use has looked"
    if file is None or getattr(sys.modules[target.__module__], target.__qualname__, None) is not target:
        raise TargetError(
            f"class {target.__qualname__}, which {cls.__name__} uses, is not at the top of a file, where a worker of "
            "its own would find it",
            "move it to the top of a file",
        )
    return {
        "kind": "class",
        "path": str(Path(file).absolute()),
        "class": target.__qualname__,
        "name": declaration.name,
        "version": version or declaration.version,
    }


def _parts(text: str) -> tuple[str, str | None]:
    """`x.py:Class` as the file and the class."""
    path, separator, name = text.rpartition(":")
    return (path, name) if separator and path.endswith(_PROGRAM) else (text, None)


def _has_format(text: str) -> bool:
    try:
        runtime_for(Path(_parts(text)[0]))
    except TargetError:
        return False
    return True


def _is_model(path: Path) -> bool:
    """A file, or a folder with a model: another folder may happen to be named like a model."""
    if path.is_dir():
        return is_model_folder(path) or next(chain(path.glob("model.*"), path.glob("*/model.*")), None) is not None
    return path.is_file()
