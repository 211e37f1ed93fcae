"""Coroutines, eight at a time."""

import asyncio

import numpy as np
from jaxtyping import Float32, Int32

import samovar


@samovar.model(concurrency=8, max_batch_size=1)
class AsyncModel:
    """Sleeps `seconds`; `together` is how many calls of this instance were running when it woke."""

    def load(self) -> None:
        self.running = 0

    async def predict(self, seconds: Float32[np.ndarray, "batch 1"]) -> Int32[np.ndarray, "batch 1"]:
        self.running += 1
        try:
            await asyncio.sleep(float(seconds.max(initial=0.0)))
            return np.full((len(seconds), 1), self.running, np.int32)
        finally:
            self.running -= 1
