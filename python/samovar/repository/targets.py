"""What the command line names: `app.py`, `app.py:Class`, a model file, a model folder, or a repository."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samovar.errors import TargetError
from samovar.repository import folders
from samovar.runtimes import runtime_for
from samovar.types import check_name

__all__ = ["Target", "file_identity", "parse_target"]

Kind = Literal["file", "model", "repository"]
_PROGRAM = ".py"
_SHOWN_FILES = 3


@dataclass(frozen=True)
class Target:
    """What is to be served: a file (`class_name` picks one class of a program), one model's folder, or a repository."""

    path: Path
    class_name: str | None = None
    kind: Kind = "file"

    def __str__(self) -> str:
        return f"{self.path}:{self.class_name}" if self.class_name else str(self.path)

    @property
    def is_program(self) -> bool:
        """True for a Python file: it names its models itself."""
        return self.kind == "file" and self.path.suffix == _PROGRAM


def parse_target(text: str) -> Target:
    """The target that `text` names. Raises TargetError for what does not exist or has no format that is served."""
    location, separator, name = text.rpartition(":")
    if not separator or Path(text).exists():
        location, name = text, ""
    path = Path(location)
    if not path.exists():
        raise TargetError(f'target "{location}" does not exist', _nearest(path))
    has_class = separator != "" and location != text
    if path.is_dir():
        if has_class:
            raise TargetError(f'target "{text}" names a class of a folder', f"write {location} to serve its models")
        folder = Path(os.path.abspath(path))  # noqa: PTH100 - without "..", which names no model
        return Target(folder, kind="model" if folders.is_model(folder) else "repository")
    if has_class and not name.isidentifier():
        raise TargetError(f'target "{text}" names the class "{name}"', "write file.py or file.py:Class")
    if has_class and path.suffix != _PROGRAM:
        raise TargetError(f'target "{text}" names a class of a file that is no Python', f"write {location}")
    runtime_for(path)
    target = Target(path.absolute(), name or None)
    _check_identity(target)
    return target


def file_identity(path: Path) -> tuple[str, str]:
    """Model and version of a file that cannot say them: its stem and "1", or those of the folders of a `model.*`."""
    if path.stem != "model":
        return path.stem, "1"
    if folders.is_version_number(path.parent.name):
        return path.parent.parent.name, path.parent.name
    return path.parent.name, "1"


def _check_identity(target: Target) -> None:
    if target.is_program:
        return
    fault = check_name("model", file_identity(target.path)[0])
    if fault:
        raise TargetError(f'{fault} (file "{target.path}")', "rename the file, or the folder of a file named model.*")


def _nearest(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f'there is no folder "{folder}"'
    names = sorted(other.name for other in folder.iterdir() if _is_servable(other))
    near = difflib.get_close_matches(path.name, names, n=_SHOWN_FILES) or names[:_SHOWN_FILES]
    return f"what can be served there: {', '.join(near)}" if near else f'nothing in "{folder.resolve()}" can be served'


def _is_servable(path: Path) -> bool:
    """True for a file of a known format, and for a folder with models."""
    try:
        if path.is_dir():
            return folders.is_model(path) or folders.models(path) != []
        runtime_for(path)
    except TargetError:
        return False
    return True
