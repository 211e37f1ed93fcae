"""Files in which the programs of apps/ note what becomes of a request."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from watching import eventually


@dataclass(frozen=True)
class Notes:
    """One such file; a program that waits for `<note>.go` goes on when the test says so."""

    note: Path

    @classmethod
    def within(cls, folder: Path) -> Self:
        """A file of its own."""
        return cls(folder / uuid.uuid4().hex)

    def notes(self) -> list[str]:
        """What was noted."""
        return self.note.read_text().splitlines() if self.note.exists() else []

    def wait(self, start: str) -> str:
        """Wait until a line that begins like this was noted, and return it."""
        return eventually(
            lambda: next((line for line in self.notes() if line.startswith(start)), ""), f"note {start!r}"
        )

    def go(self) -> None:
        """Let the program go on."""
        self.note.with_suffix(".go").touch()
