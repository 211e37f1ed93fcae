"""`load` never returns."""

import threading

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model(load_timeout_s=1.0)
class Loadhang:
    """Waits for what never comes."""

    def load(self) -> None:
        threading.Event().wait()

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return x
