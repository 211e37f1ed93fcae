"""Two inputs, two outputs."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

import samovar


class Both(NamedTuple):
    """What comes out."""

    total: Float32[np.ndarray, "batch n"]
    difference: Float32[np.ndarray, "batch n"]


@samovar.model
class Sum:
    """total = a + b, difference = a - b."""

    def predict(self, a: Float32[np.ndarray, "batch n"], b: Float32[np.ndarray, "batch n"]) -> Both:
        return Both(total=a + b, difference=a - b)
