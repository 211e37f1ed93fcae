"""An exception by input."""

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model
class Raising:
    """Raises ValueError when any row of the batch is negative, blames the client for one above 1,000, else doubles."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Float32[np.ndarray, "batch n"]:
        if (x < 0).any():
            raise ValueError(f"negative input {x.min():g}")
        if (x > 1_000).any():
            raise samovar.InvalidInputError(f"{x.max():g} is too large", "send at most 1000")
        return x * 2
