"""The model of the rows of faults."""

import checked_plain
import numpy as np
from jaxtyping import Float64

import samovar


@samovar.model
class Checked:
    """See checked_plain."""

    def predict(self, x: Float64[np.ndarray, "batch 8"]) -> Float64[np.ndarray, "batch 4"]:
        return checked_plain.run(x)
