"""A model that times its calls of another one."""

import time

import numpy as np
from jaxtyping import Float32

import samovar

STEPS = 20


@samovar.model
class First:
    """Looks at one number, so that what is measured is the way."""

    def predict(self, x: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "1"]:
        return x[:1].copy()


@samovar.model
class Stepping:
    """Seconds per step."""

    first = samovar.use(First)

    def predict(self, x: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "1"]:
        began = time.perf_counter()
        for _ in range(STEPS):
            self.first.predict.sync(x)
        return np.array([(time.perf_counter() - began) / STEPS], np.float32)
