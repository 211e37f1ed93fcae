"""Where every version that the engine lists has come from, and how it was described."""

from collections.abc import Collection, Mapping
from typing import Any

from samovar.repository.folders import Stamp
from samovar.repository.sources import Key, Source
from samovar.repository.targets import Target

__all__ = ["Origins"]


class Origins:
    """The source of each version; failed ones, and those that a client has unloaded, included.

    `models` are the descriptions of those that could be described and deployed.
    """

    def __init__(self) -> None:
        self.models: dict[Key, Mapping[str, Any]] = {}
        self._sources: dict[Key, Source] = {}
        self._stamps: dict[Key, Stamp] = {}  # of the files that a version was ready with

    @property
    def names(self) -> set[str]:
        """Every model."""
        return {name for name, _ in self._sources}

    def files(self, name: str) -> list[Source]:
        """The sources of a model that were named as files."""
        return [source for key, source in self._sources.items() if key[0] == name and source.folder is None]

    def folders(self, name: str) -> list[Target]:
        """The targets of a model that are folders."""
        return [source.target for key, source in self._sources.items() if key[0] == name and source.folder is not None]

    def of_folders(self, name: str) -> set[Key]:
        """The versions of a model that came from folders."""
        return {key for key, source in self._sources.items() if key[0] == name and source.folder is not None}

    def owner(self, key: Key, source: Source) -> Source | None:
        """The source of another target that has this version, if there is one."""
        found = self._sources.get(key)
        return None if found is None or found.target == source.target else found

    def source(self, key: Key) -> Source:
        """Where a version comes from."""
        return self._sources[key]

    def enter(self, key: Key, source: Source, model: Mapping[str, Any] | None) -> None:
        """Remember where a version comes from; without a `model` it is a failure, maybe under a made-up name."""
        self._sources[key] = source
        if model is None:
            self.models.pop(key, None)
        else:
            self.models[key] = model

    def mended(self, source: Source, described: Collection[Key]) -> list[Key]:
        """Forget what stood for a source until it could be described, unless that is one of its models."""
        stale = [
            key
            for key, known in self._sources.items()
            if known == source and key not in self.models and key not in described
        ]
        for key in stale:
            self.leave(key)
        return stale

    def leave(self, key: Key) -> None:
        """Forget a version."""
        self._sources.pop(key, None)
        self._stamps.pop(key, None)
        self.models.pop(key, None)

    def loaded(self, key: Key, source: Source) -> None:
        """A version is ready with the files that its source had."""
        self._stamps[key] = source.stamp

    def is_current(self, source: Source) -> bool:
        """True for a folder's version that was ready with the very files that are there; of other files who knows."""
        return source.folder is not None and self._stamps.get(source.key) == source.stamp
