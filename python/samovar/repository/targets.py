"""What the command line names: `app.py`, `app.py:Class`, a model file, a model folder, or a repository."""

import difflib
import os
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from samovar.config.declared import Declared
from samovar.errors import TargetError
from samovar.repository import folders
from samovar.runtimes import is_model_folder, runtime_for
from samovar.types import check_name

__all__ = ["Target", "file_identity", "parse_target"]

Kind = Literal["file", "model", "repository"]
_PROGRAM = ".py"
_CACHED, _SNAPSHOTS = "models--", "snapshots"  # in the cache of Hugging Face: models--owner--name/snapshots/commit
_SHOWN_FILES = 3


@dataclass(frozen=True)
class Target:
    """What is to be served: a file (`class_name` picks one class of a program), one model's folder, or a repository.

    `declared` is what who names it says of its model.
    """

    path: Path
    class_name: str | None = None
    kind: Kind = "file"
    declared: Declared = field(default_factory=Declared, compare=False)

    def __str__(self) -> str:
        return f"{self.path}:{self.class_name}" if self.class_name else str(self.path)

    @property
    def is_program(self) -> bool:
        """True for a Python file that names its models itself; that of a version folder is named by its folders."""
        is_version = self.path.stem == "model" and folders.is_version_number(self.path.parent.name)
        return self.kind == "file" and self.path.suffix == _PROGRAM and (self.class_name is not None or not is_version)


def parse_target(text: str, declared: Declared | None = None) -> Target:
    """The target that `text` names. Raises TargetError for what does not exist or has no format that is served."""
    declared = declared or Declared()
    return replace(_parsed(text, is_declared=declared.runtime is not None), declared=declared)


def _parsed(text: str, *, is_declared: bool) -> Target:
    """`is_declared` is whether the one who names it says of which format it is."""
    location, separator, name = text.rpartition(":")
    try:
        if not separator or Path(text).exists():
            location, name = text, ""
        if not location:  # an unset variable of a shell is not meant as the working directory
            raise TargetError(f'target "{text}" names no file', "name a model file, file.py:Class, or a folder")
        if not Path(location).exists():
            raise TargetError(f'target "{location}" does not exist', _nearest(Path(location)))
    except OSError as error:
        raise TargetError(f'target "{text}" cannot be looked at: {error.strerror or error}') from error
    path = Path(location)
    has_class = separator != "" and location != text
    if path.is_dir():
        if has_class:
            raise TargetError(f'target "{text}" names a class of a folder', f"write {location} to serve its models")
        folder = Path(os.path.abspath(path))  # noqa: PTH100 - without "..", which names no model
        return _folder(folder, is_declared=is_declared)
    if not path.is_file():
        raise TargetError(f'target "{location}" is neither a file nor a folder', "write its content to a file")
    if has_class and not name.isidentifier():
        raise TargetError(f'target "{text}" names the class "{name}"', "write file.py or file.py:Class")
    if has_class and path.suffix != _PROGRAM:
        raise TargetError(f'target "{text}" names a class of a file that is no Python', f"write {location}")
    return _file(path.absolute(), name or None, is_declared=is_declared)


def _folder(folder: Path, *, is_declared: bool) -> Target:
    """A repository, a model of one, or the model file of a version of one."""
    folder = _cached(folder) or folder
    if is_model_folder(folder):
        return _file(folder, None, is_declared=is_declared)
    version = folders.version(folder)
    if folders.is_version_number(folder.name) and version is not None and version.fault is None:
        return _file(version.path, None, is_declared=is_declared)
    return Target(folder, kind="model" if folders.is_model(folder) else "repository")


def _cached(folder: Path) -> Path | None:
    """The snapshot that the main branch is at, of a model in the cache of Hugging Face."""
    try:
        commit = (folder / "refs" / "main").read_text("utf-8").strip()
    except (OSError, ValueError):
        return None
    found = folder / _SNAPSHOTS / commit
    return found if folder.name.startswith(_CACHED) and commit and found.is_dir() else None


def _file(path: Path, class_name: str | None, *, is_declared: bool) -> Target:
    if not is_declared and not (path.parent / folders.CONFIG).is_file():  # which may say of which format the file is
        runtime_for(path)
    target = Target(path, class_name)
    _check_identity(target)
    return target


def file_identity(path: Path) -> tuple[str, str]:
    """Model and version of a file that cannot say them: its stem and "1", or those of the folders of a `model.*`.

    A folder that is one model stands for a file; in the folder of a version it may have any name, the version's too.
    In the cache of Hugging Face the name is that of the model, without its owner.
    """
    if path.parent.name == _SNAPSHOTS and path.parent.parent.name.startswith(_CACHED):
        return path.parent.parent.name.rpartition("--")[2], "1"
    if folders.is_version_number(path.name) and path.is_dir():
        return path.parent.name, path.name
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
    entries = {entry.name: entry for entry in sorted(folder.iterdir())}
    near = difflib.get_close_matches(path.name, entries, n=_SHOWN_FILES)
    for names in (near, entries):
        shown = list(islice((name for name in names if _is_servable(entries[name])), _SHOWN_FILES))
        if shown:
            return f"what can be served there: {', '.join(shown)}"
    return f'nothing in "{folder.resolve()}" can be served'


def _is_servable(path: Path) -> bool:
    """True for a file of a known format, and for a folder with models; a link to nothing is neither."""
    if not path.exists():
        return False
    try:
        if path.is_dir():
            return folders.is_model(path) or folders.models(path) != []
        runtime_for(path)
    except TargetError:
        return False
    return True
