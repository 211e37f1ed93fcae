"""No batch axis: one item at a time."""

import numpy as np
from jaxtyping import Float64

import samovar


@samovar.model
class Nobatch:
    """The 2x2 determinant, FP64[1]."""

    def predict(self, matrix: Float64[np.ndarray, "2 2"]) -> Float64[np.ndarray, "1"]:
        return np.array([matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]])
