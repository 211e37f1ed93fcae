"""A worker with a child process of its own."""

import subprocess

import numpy as np
from jaxtyping import Float32, Int64

import samovar


@samovar.model
class Children:
    """Starts `sleep` in load; predict answers its pid."""

    def load(self) -> None:
        self.child = subprocess.Popen(["sleep", "600"])

    def unload(self) -> None:
        self.child.kill()
        self.child.wait()

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Int64[np.ndarray, "batch 1"]:
        return np.full((len(x), 1), self.child.pid, np.int64)
