"""The line that says, on a terminal, what a start is loading and for how long."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from samovar.control.console import say

__all__ = ["Progress"]

_ERASE = "\r\x1b[K"
_PAUSE_S = 0.1  # between two drawings, however many events there are
_TICK_S = 0.25  # the longest wait while the seconds run
_COLUMNS = 80
_NAME = 24  # so that a long one leaves room for the seconds


class Progress:
    """What is being loaded, as one line of standard error that is drawn over itself if it is `is_shown` at all.

    The log erases the line before it writes its own; the next drawing brings it back.
    """

    def __init__(self, *, is_shown: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_shown = is_shown
        self._clock = clock
        self._began: dict[str, float] = {}  # by name, in the order of their begin
        self._waiting: set[str] = set()  # of these, what has no turn to be loaded yet
        self._ended = 0
        self._drawn: float | None = None

    @property
    def wait_s(self) -> float | None:
        """How long the engine's events may be awaited before the line is to be drawn again."""
        return _TICK_S if self._is_shown and self._began else None

    def begin(self, name: str) -> None:
        """Something is being read or loaded."""
        self._began[name] = self._clock()

    def end(self, name: str) -> float | None:
        """It is over; the seconds that it took, None if it had not begun."""
        began = self._began.pop(name, None)
        self._waiting.discard(name)
        if began is None:
            return None
        self._ended += 1
        return self._clock() - began

    def split(self, name: str, parts: Iterable[str]) -> None:
        """What was read turned out to be these, which wait to be loaded; they have taken as long as it."""
        began = self._began.pop(name, None)
        if began is not None:
            found = dict.fromkeys(parts, began)
            self._began.update(found)
            self._waiting.update(found)

    def work(self, name: str) -> None:
        """It waits no longer, and is being loaded."""
        self._waiting.discard(name)

    def draw(self) -> None:
        """Show how things are, unless that was done a moment ago."""
        now = self._clock()
        if not self._is_shown or not self._began or (self._drawn is not None and now - self._drawn < _PAUSE_S):
            return
        self._drawn = now
        say(_ERASE + self._line(now), error=True, end="")

    def clear(self) -> None:
        """Erase the line."""
        if self._drawn is not None:
            self._drawn = None
            say(_ERASE, error=True, end="")

    def _line(self, now: float) -> str:
        """What goes into one line of the terminal; those that take longest come first."""
        line = f"loading {self._ended}/{self._ended + len(self._began)}  "
        active = [(name, began) for name, began in self._began.items() if name not in self._waiting]
        words = [f"{_cut(name, _NAME)} {now - began:.0f} s" for name, began in active]
        line += ", ".join(words + [f"{len(self._waiting)} waiting"] * bool(self._waiting))
        room = max(_columns() - 1, 1)  # a full line would wrap, and only its last part be erased
        return _cut(line, room)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 3, 0)] + "..."[:length]


def _columns() -> int:
    with suppress(OSError):
        return os.get_terminal_size(2).columns or _COLUMNS
    return _COLUMNS
