"""The model of the echo benchmark, as somebody writes it who has BentoML."""

from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType, Shape

Numbers = Annotated[np.ndarray, DType("float32"), Shape((-1, 16))]


@bentoml.service
class Echo:
    """FP32[batch, 16], unchanged."""

    @bentoml.api
    async def predict(self, x: Numbers) -> Numbers:
        """Nothing here waits or computes, so it stays on the event loop; a plain method costs the hop to a thread."""
        return x
