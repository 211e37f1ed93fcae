"""From targets to sources: the files of which a worker is asked what models they have."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samovar.errors import TargetError
from samovar.model import snake_case
from samovar.repository import folders
from samovar.repository.targets import Target, file_identity
from samovar.types import check_name

__all__ = ["Key", "Source", "all_sources", "folder_sources"]

Key = tuple[str, str]


@dataclass(frozen=True)
class Source:
    """A file of a target.

    `name` and `version` are what its folders, or its file's name, call the one model in it; None where the file, a
    program, says that itself. `folder` is the model's folder in a repository, and `stamp` changes when what is in that
    of the version, or samovar.toml, does. `fault` is why the file cannot be served.
    """

    target: Target
    path: Path
    class_name: str | None = None
    name: str | None = None
    version: str | None = None
    folder: Path | None = None
    stamp: folders.Stamp = field(default=(), compare=False)
    fault: TargetError | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.path}:{self.class_name}" if self.class_name else str(self.path)

    @property
    def key(self) -> Key:
        """Name and version under which it stands while nothing has described it, or nothing can."""
        name = self.name or snake_case(self.class_name or self.path.stem)
        return _fitting("model", name), _fitting("version", self.version or "1")


def all_sources(targets: Sequence[Target]) -> list[Source]:
    """Every source of the targets as they are on disk now. Raises TargetError for a folder that cannot be read."""
    return [source for target in targets for source in _sources(target)]


def folder_sources(targets: Sequence[Target], name: str) -> list[Source]:
    """The versions of one model that repositories have now. Raises TargetError as `all_sources`."""
    named = [target for target in targets if target.kind != "file"]
    return [source for target in named for source in _sources(target, name)]


def _sources(target: Target, wanted: str | None = None) -> Iterator[Source]:
    """The sources of a target; of a folder only those of the model `wanted`, where that is given."""
    if target.kind == "file":
        name, version = (None, None) if target.is_program else file_identity(target.path)
        yield Source(target, target.path, target.class_name, name, version)
        return
    found = [target.path] if target.kind == "model" else folders.models(target.path)
    for model in found:
        if wanted is None or _fitting("model", model.name) == wanted:
            yield from _versions(target, model)


def _versions(target: Target, model: Path) -> Iterator[Source]:
    fault_of_name = check_name("model", model.name)
    if fault_of_name:
        fault = TargetError(f'{fault_of_name} (folder "{model}")', "rename the folder")
        yield Source(target, model, name=model.name, version="1", folder=model, fault=fault)
        return
    for version in folders.versions(model):
        is_folder = version.fault is not None or version.path.is_dir()
        place = version.path if is_folder else version.path.parent
        yield Source(
            target,
            version.path,
            name=model.name,
            version=version.version,
            folder=model,
            stamp=folders.stamp(place, model / folders.CONFIG),
            fault=version.fault,
        )


def _fitting(kind: str, name: str) -> str:
    """`name`, or one like it that can name a model or version."""
    fitting = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return fitting if check_name(kind, fitting) is None else f"target_{fitting}"[:255]
