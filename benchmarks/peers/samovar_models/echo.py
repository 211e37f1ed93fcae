"""The model of the echo benchmark: no work of its own, so that what is measured is the engine."""

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model
class Echo:
    """FP32[batch, 16], unchanged."""

    def predict(self, x: Float32[np.ndarray, "batch 16"]) -> Float32[np.ndarray, "batch 16"]:
        return x
