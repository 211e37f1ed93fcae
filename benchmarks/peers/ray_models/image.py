"""The model of the image benchmark, as somebody writes it who has Ray Serve."""

import numpy as np
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=1000)
class Image:
    """The mean of each picture."""

    async def __call__(self, request: Request) -> np.ndarray:
        """FP32[batch, 3, 224, 224] in, FP32[batch, 1] out."""
        x = np.array((await request.json())["x"], np.float32)
        return x.mean(axis=(1, 2, 3))[:, None]


app = Image.bind()
