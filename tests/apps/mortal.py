"""Ends or fails by input, and tells who ran a request, with how many others, and how often."""

import asyncio
import os
import signal
import time
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

import samovar

RAISES, DIES, LOOPS, SPINS = -1, -2, -3, -4


class Ran(NamedTuple):
    """Twice the key, the process that ran it, and the rows of its call."""

    double: Int64[np.ndarray, "batch 1"]
    pid: Int64[np.ndarray, "batch 1"]
    rows: Int64[np.ndarray, "batch 1"]


def run(key: np.ndarray, seconds: np.ndarray) -> Ran:
    """A line per key in the file MORTAL_FILE, if there is one; then a sleep as long as the longest wish."""
    keys = key.ravel().tolist()
    if "MORTAL_FILE" in os.environ:
        file = os.open(os.environ["MORTAL_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, "".join(f"{each}\n" for each in keys).encode())
        os.close(file)
    if RAISES in keys:
        raise ValueError("a key that raises")
    if DIES in keys:
        os.kill(os.getpid(), signal.SIGKILL)
    if LOOPS in keys:
        sum(range(10**15))  # a loop in C that never lets another thread run
    end = time.monotonic() + float(seconds.max(initial=0.0))
    while SPINS in keys and time.monotonic() < end:
        pass  # a loop in Python, which lets others run every 5 ms
    time.sleep(max(end - time.monotonic(), 0.0))
    return Ran(key * 2, np.full_like(key, os.getpid()), np.full_like(key, len(key)))


@samovar.model
class Mortal:
    """May run again after a death."""

    def predict(self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]) -> Ran:
        return run(key, seconds)


@samovar.model(idempotent=False)
class MortalOnce:
    """Never runs twice."""

    def predict(self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]) -> Ran:
        return run(key, seconds)


@samovar.model(hard_kill_after_s=1.0)
class MortalHasty:
    """Is killed where a call runs on for nobody."""

    def predict(self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]) -> Ran:
        return run(key, seconds)


@samovar.model(max_batch_size=1)
class MortalSingle:
    """One row per call, so that every batch is full and the next one is prefetched."""

    def predict(self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]) -> Ran:
        return run(key, seconds)


@samovar.model(max_batch_size=1, max_queue_items=20)
class MortalNarrow:
    """The same, with few that may wait."""

    def predict(self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]) -> Ran:
        return run(key, seconds)


@samovar.model(idempotent=False, batch_errors="shared")
class MortalShared:
    """Never runs twice, and shares its calls and their exceptions."""

    def predict(self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]) -> Ran:
        return run(key, seconds)


@samovar.model(max_request_timeout_s=0.5)
class MortalBrief:
    """No request may take longer, whatever it says."""

    def predict(self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]) -> Ran:
        return run(key, seconds)


@samovar.model(max_batch_size=1, concurrency=4)
class MortalAsync:
    """Four calls at a time, which share an interpreter and an event loop."""

    async def predict(self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]) -> Ran:
        ran = run(key, seconds * 0)
        await asyncio.sleep(float(seconds.max(initial=0.0)))
        return ran


@samovar.model(instances=2)
class MortalPair:
    """Two workers."""

    def predict(self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]) -> Ran:
        return run(key, seconds)
