"""What happens to a model, as lines of the file HOOKS_FILE."""

import asyncio
import os

import numpy as np
from jaxtyping import Float32

import samovar


def note(line: str) -> None:
    """Append a line in one write."""
    file = os.open(os.environ["HOOKS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


@samovar.model
class Hooks:
    """Echo."""

    def load(self) -> None:
        note("load")

    def unload(self) -> None:
        note("unload")

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return x


@samovar.model(max_batch_size=1, concurrency=4)
class AsyncHooks:
    """Sleeps `seconds`; a cancelled call leaves a line."""

    async def load(self) -> None:
        await asyncio.sleep(0)
        note("async load")

    async def unload(self) -> None:
        await asyncio.sleep(0)
        note("async unload")

    async def predict(self, seconds: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        note("begun")
        try:
            await asyncio.sleep(float(seconds[0, 0]))
        except asyncio.CancelledError:
            note("cancelled")
            raise
        return seconds
