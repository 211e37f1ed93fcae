"""An exception by input."""

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model
class Raising:
    """Raises ValueError when any row of the batch is negative, else doubles."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Float32[np.ndarray, "batch n"]:
        if (x < 0).any():
            raise ValueError(f"negative input {x.min():g}")
        return x * 2
