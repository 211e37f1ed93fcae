"""The model of the batching benchmark, as somebody writes it who has Ray Serve."""

import asyncio
import time

import numpy as np
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=1000)  # 5 by default: less than the default batch of 10
class Steady:
    """FP32[batch, 16], unchanged; 5 ms a batch, and 10 us more for each row."""

    @serve.batch
    async def predict(self, requests: list[np.ndarray]) -> list[np.ndarray]:
        """In a thread, as it blocks: requests are read meanwhile."""
        x = np.concatenate(requests)
        await asyncio.to_thread(time.sleep, 0.005 + 10e-6 * len(x))
        return np.split(x, np.cumsum([len(rows) for rows in requests])[:-1])

    async def __call__(self, request: Request) -> np.ndarray:
        """One request waits for its batch."""
        return await self.predict(np.array((await request.json())["x"], np.float32))


app = Steady.bind()
