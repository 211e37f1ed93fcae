"""How a repository is laid out: `<model>/<version>/model.*`, or `<model>/model.*` for a model with one version.

Where the keys of a model are in a samovar.toml beside it, its file may have any name.

Of formats that are folders, `<model>/<version>` or `<model>` may be the model itself.

Folders whose name begins with "." or "_" are none of ours. Names come from listings and are never joined to a path.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from samovar.config.layers import is_of_a_model, read_toml
from samovar.errors import ConfigError, TargetError
from samovar.runtimes import is_model_folder, runtime_for
from samovar.types import check_name

__all__ = [
    "CONFIG",
    "TRITON_CONFIG",
    "Stamp",
    "VersionFolder",
    "empty_repository",
    "is_model",
    "is_version_number",
    "models",
    "stamp",
    "version",
    "versions",
]

CONFIG = "samovar.toml"
TRITON_CONFIG = "config.pbtxt"
_FILE = "model.*"
_SURE_MODEL = "*.onnx"  # of other files one cannot say: they may be code or weights for a model elsewhere
_NO_FILE = "put a model file there, model.onnx for instance"

Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class VersionFolder:
    """One version of a model: its name, its model file, or the folder and the fault why that has none."""

    version: str
    path: Path
    fault: TargetError | None = None


def is_version_number(name: str) -> bool:
    """True for the name of a version folder that cannot be anything else."""
    return name.isascii() and name.isdecimal()


def is_model(folder: Path) -> bool:
    """True if a folder given as a target is one model and no repository of several."""
    return _model_files(folder) != [] or any(is_version_number(child.name) for child in _folders(folder))


def models(repository: Path) -> list[Path]:
    """The model folders, by name. Raises TargetError where the repository cannot be read."""
    return [folder for folder in _folders(repository) if _is_meant_as_model(folder)]


def versions(model: Path) -> list[VersionFolder]:
    """The versions of a model folder, by name; a folder that cannot be served is one version with a fault."""
    try:
        if is_model_folder(model):  # what folders are in it is its own business
            return [VersionFolder("1", model)]
        found = [one for child in _folders(model) if (one := version(child)) is not None]
        if found:
            return found
        if _model_files(model):
            return [VersionFolder("1", *_model_file(model))]
    except TargetError as error:
        return [VersionFolder("1", model, error)]
    cure = _renaming(model) or f'make "1" in it and {_NO_FILE}'
    return [VersionFolder("1", model, TargetError(f'model folder "{model}" has no version', cure))]


def stamp(folder: Path, *settings: Path) -> Stamp:
    """What changes when a file below `folder`, or one of `settings`, is replaced, written, added or removed."""
    files = list(settings)
    for place, names, found in os.walk(folder):
        names[:] = [name for name in names if name != "__pycache__"]
        files += [Path(place) / name for name in found]
    marks = []
    for file in sorted(files):
        try:
            status = file.stat()
        except OSError:
            continue
        marks.append((str(file), status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(marks)


def empty_repository(folder: Path) -> TargetError:
    """What is wrong with a folder that has no model folders, and what may have been meant."""
    layout = f"put the file of a model there as {folder.name}/NAME/1/model.onnx, for instance"
    files = sorted(file.name for file in folder.iterdir() if file.is_file() and _is_known(file))
    if files:
        return TargetError(f'folder "{folder}" has no model folders', f"{layout}, or serve its files: {files[0]} ...")
    return TargetError(f'folder "{folder}" has no models', layout)


def _is_meant_as_model(folder: Path) -> bool:
    """False for a folder that has nothing of a model: documents, code or weights may lie beside the models."""
    try:
        if any(version(child) is not None for child in _folders(folder)):
            return True
    except TargetError:
        return True  # to stand there with that fault
    if any((folder / name).exists() for name in (CONFIG, TRITON_CONFIG)) or _model_files(folder):
        return True
    return any(folder.glob(_SURE_MODEL)) or is_model_folder(folder)  # last, as every runtime of folders is asked


def version(folder: Path) -> VersionFolder | None:
    """A folder as a version; None if it has another name than a number, and no model file."""
    if not _model_files(folder):
        if is_version_number(folder.name) and is_model_folder(folder):
            return VersionFolder(folder.name, folder)
        fault = TargetError(f'version folder "{folder}" has no model file', _renaming(folder) or _NO_FILE)
        return VersionFolder(folder.name, folder, fault) if is_version_number(folder.name) else None
    fault_of_name = check_name("version", folder.name)
    if fault_of_name:
        return VersionFolder(folder.name, folder, TargetError(f'{fault_of_name} (folder "{folder}")', "rename it"))
    return VersionFolder(folder.name, *_model_file(folder))


def _model_file(folder: Path) -> tuple[Path, TargetError | None]:
    """The file that is the model; beside it may lie others that no runtime knows, with its weights for instance."""
    files = _model_files(folder)
    known = files if len(files) == 1 else [file for file in files if _is_known(file)] or files[:1]
    if len(known) == 1:
        return known[0], None
    fault = TargetError(f'"{folder}" has two model files: {known[0].name} and {known[1].name}', "leave one of them")
    return folder, fault


def _renaming(folder: Path) -> str:
    """The cure for a model file under another name; nothing where there is none."""
    files = sorted(file for file in folder.glob("*") if file.is_file() and _is_known(file))
    return f"rename {files[0].name} to model{files[0].suffix}" if files else ""


def _model_files(folder: Path) -> list[Path]:
    named = sorted(file for file in folder.glob(_FILE) if file.is_file() or is_model_folder(file))
    return named or (_declared_files(folder) if (folder / CONFIG).is_file() else [])


def _declared_files(folder: Path) -> list[Path]:
    """The model files, whatever their names, of a folder whose samovar.toml has the keys of a model."""
    try:
        is_declared = is_of_a_model(read_toml(folder / CONFIG))
    except ConfigError:
        is_declared = False  # the fault is told by who reads what it says
    if not is_declared:
        return []
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix not in (".py", ".toml"))
    return [file for file in files if _is_known(file)]


def _is_known(file: Path) -> bool:
    try:
        runtime_for(file)
    except TargetError:
        return False
    return True


def _folders(folder: Path) -> list[Path]:
    """Folders in it, by name, links to folders included. Raises TargetError where it cannot be read."""
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise TargetError(f'folder "{folder}" cannot be read: {error.strerror or error}') from error
    return [child for child in children if child.name[0] not in "._" and child.is_dir()]
