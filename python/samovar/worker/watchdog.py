"""Notices user code that holds the event loop: whoever else has a request there waits for it."""

import asyncio
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from samovar.errors import is_ours

__all__ = ["Watchdog"]

LIMIT_S = 1.0
_LOOK_S = 0.25
_SHOWN_FRAMES = 2
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Watchdog:
    """Looks from a thread of its own whether the loop of this thread turns while calls run; a stall is told once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, is_busy: Callable[[], bool]) -> None:
        self._loop = loop
        self._is_busy = is_busy
        self._loop_thread = threading.get_ident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samovar-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no longer."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_S):
            if self._is_busy() and not self._turns():
                return

    def _turns(self) -> bool:
        """Wait for the loop to turn, and tell where it stands if it does not; False where it has ended."""
        turned = threading.Event()
        try:
            self._loop.call_soon_threadsafe(turned.set)
        except RuntimeError:
            return False
        began = time.monotonic()
        if not turned.wait(LIMIT_S):
            print(_told(time.monotonic() - began, self._loop_thread), file=sys.stderr)  # noqa: T201 - for the log
            while not (turned.wait(_LOOK_S) or self._stopped.is_set()):
                pass
        return True


def _told(seconds: float, thread: int) -> str:
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - the one way to see another thread
    stack = traceback.extract_stack(frame) if frame is not None else []
    places = " <- ".join(f"{place.filename}:{place.lineno} in {place.name}" for place in _shown(stack))
    return (
        f"warning: the event loop has been blocked for {seconds:.1f} s, and every request of this worker with it, by "
        f"{places or 'unknown code'}; await something else there, use asyncio.to_thread, or write def instead of "
        "async def"
    )


def _shown(stack: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The innermost frames of the user's own code, the innermost first; of libraries where there are no others."""
    others = [place for place in stack if not (is_ours(place.filename) or _is_machinery(place.filename))]
    own = [place for place in others if not place.filename.startswith(_LIBRARIES)]
    return (own or others)[: -_SHOWN_FRAMES - 1 : -1]


def _is_machinery(filename: str) -> bool:
    return "/asyncio/" in filename or filename.startswith("<frozen ")
