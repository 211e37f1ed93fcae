"""The priority of a worker that loads while others serve: what it computes must not make their requests wait."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["Priority"]

_LOWER_BY = 10  # nice values: a tenth of a processor where a request wants it too, the whole of one where none does
_LOWEST = 19
_ROUNDS = 100  # a program that starts threads faster than they are found is not waited for


class Priority:
    """Low or that of the engine, for every thread of this process and of those that it has started.

    It is not lowered where it could not be raised again (setpriority(2): CAP_SYS_NICE, or a sufficient RLIMIT_NICE).
    """

    def __init__(self) -> None:
        self._normal = os.getpriority(os.PRIO_PROCESS, os.getppid())
        own = os.getpriority(os.PRIO_PROCESS, 0)
        self._is_low = own > self._normal  # the engine started it so
        self._low = own if self._is_low else min(self._normal + _LOWER_BY, _LOWEST)

    def set(self, *, is_low: bool) -> None:
        """Lower or raise it, unless that has been done; threads started from now on inherit it."""
        if is_low == self._is_low or self._low == self._normal or (is_low and not _can_raise_again()):
            return
        self._is_low = is_low
        before, after = (self._normal, self._low) if is_low else (self._low, self._normal)
        _move(before, after)


def _can_raise_again() -> bool:
    """Tried by a thread of its own: what the kernel allows depends on more than can be read."""
    allowed = []

    def attempt() -> None:
        own = threading.get_native_id()
        normal = os.getpriority(os.PRIO_PROCESS, own)
        os.setpriority(os.PRIO_PROCESS, own, normal + 1)
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, own, normal)
            allowed.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(allowed)


def _move(before: int, after: int) -> None:
    """Give threads of the nice value `before` the nice value `after`, those too that they start meanwhile."""
    for _ in range(_ROUNDS):
        if not sum(_move_one(thread, before, after) for thread in _threads(os.getpid())):
            return


def _move_one(thread: int, before: int, after: int) -> bool:
    """False where there is nothing to do: what set a value of its own keeps it, and a thread may have ended."""
    with suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, thread) == before:
            os.setpriority(os.PRIO_PROCESS, thread, after)
            return True
    return False


def _threads(process: int) -> Iterator[int]:
    """The threads of a process and of its children, and theirs."""
    with suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{process}/task").iterdir():
            yield int(thread.name)
            with suppress(OSError):  # a kernel may come without the list of children
                for child in (thread / "children").read_text("ascii").split():
                    yield from _threads(int(child))
