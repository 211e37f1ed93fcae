"""The model of the batching benchmark, as somebody writes it who has BentoML."""

import time
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType, Shape

Numbers = Annotated[np.ndarray, DType("float32"), Shape((-1, 16))]


@bentoml.service
class Steady:
    """FP32[batch, 16], unchanged; 5 ms a batch, and 10 us more for each row."""

    @bentoml.api(batchable=True)
    def predict(self, x: Numbers) -> Numbers:
        """In a thread, as it blocks: requests are read meanwhile."""
        time.sleep(0.005 + 10e-6 * len(x))
        return x
