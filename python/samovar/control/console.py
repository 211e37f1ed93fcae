"""Standard output and error of the command and the engine: nobody may read them, and that ends no engine."""

import os
import sys
from contextlib import suppress
from typing import Literal

__all__ = ["complete_streams", "is_terminal", "say"]

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


def say(line: str, *, error: bool = False) -> None:
    """Print a line to standard output, or to standard error; drop it where that is closed, full, or read by nobody."""
    name = "stderr" if error else "stdout"
    stream = getattr(sys, name)
    if stream is None:
        return
    try:
        print(line, file=stream, flush=True)
    except (OSError, ValueError):
        # What its buffer still holds would fail again at the exit and change the exit code.
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for good


def is_terminal() -> bool:
    """True if standard error is a terminal."""
    with suppress(OSError, ValueError, AttributeError):  # AttributeError: it is closed, and so None
        return sys.stderr.isatty()
    return False


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
