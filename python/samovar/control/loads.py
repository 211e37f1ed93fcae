"""A load, from the question what a target has to the last version that is ready or failed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from samovar.control.descriptions import Description
from samovar.errors import TargetError

__all__ = ["Key", "Load", "duplicates"]

Key = tuple[str, str]


@dataclass(eq=False)
class Load:
    """Targets that are loaded together: all of them at the start (no `ticket`), later those of one model.

    `loading` are the versions (name, version) whose end is awaited, `faults` what went wrong so far.
    """

    ticket: int | None
    expected: int
    descriptions: list[Description] = field(default_factory=list)
    loading: set[Key] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    @property
    def is_described(self) -> bool:
        """True when every target has answered."""
        return len(self.descriptions) == self.expected


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
