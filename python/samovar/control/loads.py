"""Loads, from the question what a source has to the last version that is ready or failed; and unloads."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samovar.errors import TargetError
from samovar.repository.sources import Key, Source

__all__ = ["Description", "Fault", "Load", "Unload", "cause_text", "duplicates", "model_place"]

Place = tuple[Path, str | None]
Fault = tuple[str, dict[str, Any]]  # a source, or a version of it, and the cause of its failure


@dataclass
class Description:
    """What a worker found at a source: `models`, and `probe` to make it instance 0 of one of them; else the `cause`."""

    source: Source
    models: list[dict[str, Any]] = field(default_factory=list)
    probe: int | None = None
    cause: dict[str, Any] | None = None


@dataclass(eq=False)
class Load:
    """Sources that are loaded together: all of them at the start (no `ticket`), later those of one model.

    What they use and nothing serves yet joins them: the `sources` from `joined_at` on. `is_open` says of a start that
    models may come later.
    `leaving` are versions whose folders are gone: they end when the others are ready. `loading` are the versions (by
    serial) whose end is awaited, `faults` what went wrong so far, `unlisted` the sources of a start whose failure no
    version shows.
    """

    ticket: int | None
    sources: list[Source]
    leaving: Collection[Key] = ()
    is_open: bool = False
    descriptions: list[Description] = field(default_factory=list)
    loading: dict[int, tuple[Key, Source]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unlisted: list[Fault] = field(default_factory=list)
    joined_at: int = field(init=False)

    def __post_init__(self) -> None:
        self.joined_at = len(self.sources)

    @property
    def is_described(self) -> bool:
        """True when every source has answered."""
        return len(self.descriptions) == len(self.sources)

    def drop_repeats(self, served: Iterable[Place]) -> None:
        """A source that has joined adds nothing that is served, or that another source has too."""
        joined = self.sources[self.joined_at :]
        seen = set(served)
        for description in sorted(self.descriptions, key=lambda described: described.source in joined):
            places = {model_place(model): model for model in description.models}
            if description.source in joined:
                description.models = [model for place, model in places.items() if place not in seen]
            seen.update(places)


@dataclass(eq=False)
class Unload:
    """An unload that a client waits for: the serials of the versions that drain."""

    ticket: int
    serials: set[int]


def model_place(model: Mapping[str, Any]) -> Place:
    """The file of a described model, however it was named, and the class in it."""
    return Path(model["source"]["path"]).resolve(), model["source"].get("class")


def cause_text(cause: dict[str, Any]) -> str:
    """A version's cause as one line."""
    message, next_step = str(cause.get("message") or "unknown"), cause.get("next_step")
    return f"{message}; {next_step}" if next_step else message


def duplicates(descriptions: Iterable[Description]) -> TargetError | None:
    """The error that names two sources with the same version of a model, if there are such."""
    owners: dict[Key, Description] = {}
    for description in descriptions:
        for model in description.models:
            key = (model["name"], model["version"])
            other = owners.setdefault(key, description)
            if other is not description:
                return _duplicate(key, other.source, description.source)
    return None


def _duplicate(key: Key, one: Source, other: Source) -> TargetError:
    if str(one) == str(other):
        return TargetError(f"{one} is named twice", "name each target once")
    cure = "rename one with @samovar.model(name=...), or name one class with file.py:Class"
    if not (one.target.is_program and other.target.is_program):
        cure = "rename one of the files, folders or classes"
    return TargetError(f'{one} and {other} both have model "{key[0]}" version "{key[1]}"', cure)
