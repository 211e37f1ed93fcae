"""Workers that do not listen."""

import ctypes
import sys
import threading
import time

import numpy as np
from jaxtyping import Float32

import samovar


def chatter() -> None:
    """Full pipes, for ever."""
    while True:
        print("x" * 4096)
        print("y" * 4096, file=sys.stderr)


@samovar.model
class Chatter:
    """Prints all the time."""

    def load(self) -> None:
        threading.Thread(target=chatter, daemon=True).start()

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return x


@samovar.model
class Greedy:
    """Keeps the interpreter for itself while it runs: native code that does not give the GIL away."""

    def predict(self, seconds: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        ctypes.PyDLL(None).usleep(int(seconds.max(initial=0.0) * 1e6))
        return seconds


@samovar.model
class Waiting:
    """A load without end."""

    def load(self) -> None:
        print("waiting: begun", file=sys.stderr, flush=True)
        time.sleep(600)

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return x
