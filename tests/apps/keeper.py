"""Code that keeps its inputs must keep its own bytes, not the next client's."""

import numpy as np
from jaxtyping import Float32, Float64

import samovar


@samovar.model(max_batch_size=1)
class Keeper:
    """Keeps every input array; `seen` is the sum of each kept array as it reads now, one number per call so far."""

    def load(self) -> None:
        self.kept: list[np.ndarray] = []

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Float64[np.ndarray, "batch m"]:
        self.kept.append(x)
        return np.array([[float(kept.sum()) for kept in self.kept]], np.float64)


@samovar.model(max_batch_size=1)
class Forgetter:
    """Keeps its last input only."""

    def load(self) -> None:
        self.kept: np.ndarray | None = None

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Float64[np.ndarray, "batch 1"]:
        before = 0.0 if self.kept is None else float(self.kept.sum())
        self.kept = x
        return np.array([[before]], np.float64)
