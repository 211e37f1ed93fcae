"""Notices user code that holds the event loop: whoever else has a request there waits for it."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable

from samovar.errors import is_ours

__all__ = ["Watchdog"]

LIMIT_S = 1.0
_LOOK_S = 0.25
_SHOWN_FRAMES = 2


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
    users = [place for place in stack if not (is_ours(place.filename) or "/asyncio/" in place.filename)][
        -_SHOWN_FRAMES:
    ]
    places = " <- ".join(f"{place.filename}:{place.lineno} in {place.name}" for place in reversed(users))
    return (
        f"warning: the event loop has been blocked for {seconds:.1f} s, and every request of this worker with it, by "
        f"{places or 'unknown code'}; await something else there, use asyncio.to_thread, or write def instead of "
        "async def"
    )
