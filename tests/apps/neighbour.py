"""A model whose callers must not notice what others do."""

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model
class Neighbour:
    """output = 2 x."""

    def predict(self, x: Float32[np.ndarray, "batch 3"]) -> Float32[np.ndarray, "batch 3"]:
        return x * 2
