"""A call that lasts as long as its largest input says."""

import time

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model
class Slow:
    """Sleeps max(seconds), returns its input; a batch takes as long as its longest row."""

    def predict(self, seconds: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        time.sleep(float(seconds.max(initial=0.0)))
        return seconds
