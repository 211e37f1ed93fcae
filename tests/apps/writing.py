"""Models that write into their inputs."""

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model
class ReadOnly:
    """Raises where the input is read-only, as it should be."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Float32[np.ndarray, "batch n"]:
        x += 1
        return x


@samovar.model(writable_inputs=True)
class Writable:
    """x + 1, made in place."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Float32[np.ndarray, "batch n"]:
        x += 1
        return x
