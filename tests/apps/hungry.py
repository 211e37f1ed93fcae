"""Takes as much memory as it is asked to, within a limit."""

import os

import numpy as np
from jaxtyping import Int64

import samovar


@samovar.model(max_memory_bytes=3 << 30)
class Hungry:
    """The process that holds so many MiB for a moment."""

    def predict(self, mib: Int64[np.ndarray, "batch 1"]) -> Int64[np.ndarray, "batch 1"]:
        taken = np.ones(int(mib.max()) << 20, np.uint8)
        return np.full_like(mib, os.getpid() if taken.all() else 0)


@samovar.model(max_memory_bytes=1 << 20)
class Starved:
    """Has less than its libraries need."""

    def predict(self, mib: Int64[np.ndarray, "batch 1"]) -> Int64[np.ndarray, "batch 1"]:
        return mib
