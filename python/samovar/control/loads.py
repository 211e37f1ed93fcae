"""Loads, from the question what a source has to the last version that is ready or failed; and unloads."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from samovar.errors import TargetError
from samovar.repository.sources import Key, Source

__all__ = ["Description", "Fault", "Load", "Unload", "cause_text", "duplicates"]

Fault = tuple[str, dict[str, Any]]  # a source, or a version of it, and the cause of its failure


@dataclass(frozen=True)
class Description:
    """What a worker found at a source: `models`, and `probe` to make it instance 0 of one of them; else the `cause`."""

    source: Source
    models: list[dict[str, Any]] = field(default_factory=list)
    probe: int | None = None
    cause: dict[str, Any] | None = None


@dataclass(eq=False)
class Load:
    """Sources that are loaded together: all of them at the start (no `ticket`), later those of one model.

    `leaving` are versions whose folders are gone: they end when the others are ready. `loading` are the versions (by
    serial) whose end is awaited, `faults` what went wrong so far, `unlisted` the sources of a start whose failure no
    version shows.
    """

    ticket: int | None
    sources: Sequence[Source]
    leaving: Collection[Key] = ()
    descriptions: list[Description] = field(default_factory=list)
    loading: dict[int, tuple[Key, Source]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unlisted: list[Fault] = field(default_factory=list)

    @property
    def is_described(self) -> bool:
        """True when every source has answered."""
        return len(self.descriptions) == len(self.sources)


@dataclass(eq=False)
class Unload:
    """An unload that a client waits for: the serials of the versions that drain."""

    ticket: int
    serials: set[int]


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
