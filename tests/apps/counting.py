"""Every run leaves a line; `COUNTING_FILE` names the file."""

import os
import time

import numpy as np
from jaxtyping import Float32, Int64

import samovar


def count(keys: list[int]) -> None:
    """Append one line per key in a single write, so that a death never leaves half a line."""
    target = os.open(os.environ["COUNTING_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(target, "".join(f"{key}\n" for key in keys).encode())
    finally:
        os.close(target)


@samovar.model(idempotent=False)
class CountingOnce:
    """Must never run twice for one request; `seconds` widens the window in which it can be killed."""

    def predict(
        self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]
    ) -> Int64[np.ndarray, "batch 1"]:
        count(key.ravel().tolist())
        time.sleep(float(seconds.max(initial=0.0)))
        return key


@samovar.model
class Counting:
    """May run again after a death; answers key * 2."""

    def predict(
        self, key: Int64[np.ndarray, "batch 1"], seconds: Float32[np.ndarray, "batch 1"]
    ) -> Int64[np.ndarray, "batch 1"]:
        count(key.ravel().tolist())
        time.sleep(float(seconds.max(initial=0.0)))
        return key * 2
