"""Lines on stdout and stderr during load and calls."""

import sys

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model
class Talking:
    """Says something everywhere."""

    def load(self) -> None:
        print("talking: load on stdout")
        print("talking: load on stderr", file=sys.stderr)

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        print(f"talking: predict {x[0, 0]:g}")
        return x
