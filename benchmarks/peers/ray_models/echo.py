"""The model of the echo benchmark, as somebody writes it who has Ray Serve."""

import numpy as np
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=1000)  # 5 by default: the others would wait in the proxy while the model idles
class Echo:
    """FP32[batch, 16], unchanged."""

    async def __call__(self, request: Request) -> np.ndarray:
        """Serve encodes arrays itself."""
        return np.array((await request.json())["x"], np.float32)


app = Echo.bind()
