"""Loads, from the question what a target has to the last version that is ready or failed; and unloads."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from samovar.errors import TargetError
from samovar.repository.targets import Target

__all__ = ["Description", "Fault", "Key", "Load", "Unload", "cause_text", "duplicates"]

Key = tuple[str, str]
Fault = tuple[str, dict[str, Any]]  # a target and the cause of its failure


@dataclass(frozen=True)
class Description:
    """What a worker found at a target: `models`, and `probe` to make it instance 0 of one of them; else the `cause`."""

    target: Target
    models: list[dict[str, Any]] = field(default_factory=list)
    probe: int | None = None
    cause: dict[str, Any] | None = None


@dataclass(eq=False)
class Load:
    """Targets that are loaded together: all of them at the start (no `ticket`), later those of one model.

    `loading` are the versions (serial: name and version) whose end is awaited, `faults` what went wrong so far,
    `unlisted` the targets of a start whose failure no version shows.
    """

    ticket: int | None
    expected: int
    descriptions: list[Description] = field(default_factory=list)
    loading: dict[int, Key] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unlisted: list[Fault] = field(default_factory=list)

    @property
    def is_described(self) -> bool:
        """True when every target has answered."""
        return len(self.descriptions) == self.expected


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
    """The error that names two targets with the same version of a model, if there are such."""
    owners: dict[Key, Description] = {}
    for description in descriptions:
        for model in description.models:
            key = (model["name"], model["version"])
            other = owners.setdefault(key, description)
            if other is not description:
                return TargetError(
                    f'{other.target} and {description.target} both have model "{key[0]}" version "{key[1]}"',
                    "rename one with @samovar.model(name=...), or name one class with file.py:Class",
                )
    return None
