"""Standard output and error of the command and the engine: nobody may read them, and that ends no engine."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Literal

__all__ = ["Style", "complete_streams", "is_terminal", "printable", "say"]

Name = Literal["stdout", "stderr"]
_BOLD, _DIM, _RED, _GREEN = "1", "2", "31", "32"

_STREAMS: dict[Literal["stdin", "stdout", "stderr"], tuple[int, int, str]] = {
    "stdin": (0, os.O_RDONLY, "r"),
    "stdout": (1, os.O_WRONLY, "w"),
    "stderr": (2, os.O_WRONLY, "w"),
}


def complete_streams() -> None:
    """Put the null device where a standard stream is closed: else the next file that opens would take its number."""
    for name, (number, flags, mode) in _STREAMS.items():
        if not _is_open(number):
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good
    if isinstance(sys.stdout, TextIOWrapper):  # what its encoding lacks is escaped, as on standard error
        sys.stdout.reconfigure(errors="backslashreplace")


def say(line: str, *, error: bool = False, end: str = "\n") -> None:
    """Print a line to standard output, or to standard error; drop it where that is closed, full, or read by nobody."""
    name: Name = "stderr" if error else "stdout"
    stream = getattr(sys, name)
    if stream is None:
        return
    try:
        stream.write(line + end)  # in one piece: lines of the log go to the same place
        stream.flush()
    except (OSError, ValueError):
        # What its buffer still holds would fail again at the exit and change the exit code.
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for good


@dataclass(frozen=True)
class Style:
    """How words look on one stream: with colours, marks and several lines per fault only on a terminal."""

    is_terminal: bool = False
    has_colours: bool = False
    has_symbols: bool = False

    @classmethod
    def of(cls, name: Name) -> "Style":
        """The style of standard output or error as it is now."""
        stream = getattr(sys, name)
        if not is_terminal(name):
            return cls()
        has_symbols = (stream.encoding or "").lower().replace("-", "") == "utf8"
        return cls(True, not os.environ.get("NO_COLOR"), has_symbols)

    def good(self) -> str:
        """The mark of what went well."""
        return self._paint("✓" if self.has_symbols else "+", _GREEN)

    def bad(self) -> str:
        """The mark of what failed."""
        return self._paint("✗" if self.has_symbols else "x", _RED)

    def name(self, text: str) -> str:
        """The name of a thing."""
        return self._paint(text, _BOLD)

    def aside(self, text: str) -> str:
        """What others wrote, a line of a log for instance."""
        return self._paint(text, _DIM)

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.has_colours else text


def is_terminal(name: Name = "stderr") -> bool:
    """True if standard error, or output, is a terminal that can do more than print lines."""
    with suppress(OSError, ValueError, AttributeError):  # AttributeError: it is closed, and so None
        return getattr(sys, name).isatty() and os.environ.get("TERM") != "dumb"
    return False


def printable(text: str) -> str:
    """`text`, of a model perhaps, without what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
