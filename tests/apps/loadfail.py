"""`load` raises after it wrote to stderr."""

import sys

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model
class Loadfail:
    """60 numbered lines on stderr, then RuntimeError."""

    def load(self) -> None:
        for number in range(60):
            print(f"loadfail line {number}", file=sys.stderr)
        raise RuntimeError("the weights are not there")

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return x
