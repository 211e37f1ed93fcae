"""The model of the payload benchmark: large requests, tiny answers."""

import numpy as np
from jaxtyping import Int64, UInt8

import samovar


@samovar.model
class Length:
    """How many bytes came. They are there to be read; nothing reads them, so that what is measured is the way."""

    def predict(self, x: UInt8[np.ndarray, "n"]) -> Int64[np.ndarray, "1"]:
        return np.array([x.size])
