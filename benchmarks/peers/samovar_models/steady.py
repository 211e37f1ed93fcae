"""The model of the batching benchmark: 5 ms a batch, and 10 us more for each row."""

import time

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model
class Steady:
    """FP32[batch, 16], unchanged. It sleeps, as the host does while a GPU works."""

    def predict(self, x: Float32[np.ndarray, "batch 16"]) -> Float32[np.ndarray, "batch 16"]:
        time.sleep(0.005 + 10e-6 * len(x))
        return x
