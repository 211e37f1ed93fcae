"""Calls that begin and end when the test says so, and answers that tell who shared a call."""

import asyncio
import os
import socket
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

import samovar


class Told(NamedTuple):
    """Per row: its own value, the rows of its call, the process."""

    output: Float32[np.ndarray, "batch n"]
    rows: Int64[np.ndarray, "batch"]
    pid: Int64[np.ndarray, "batch"]


def told(x: np.ndarray) -> Told:
    rows = len(x)
    return Told(x, np.full(rows, rows, np.int64), np.full(rows, os.getpid(), np.int64))


def wait(x: np.ndarray) -> None:
    """A negative value connects to the abstract socket GATE and waits until the test closes that connection."""
    if (x < 0).any():
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect("\0" + os.environ["GATE"])
            connection.recv(1)


@samovar.model(max_batch_size=8)
class Gate:
    """One instance, batches of 8."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Told:
        wait(x)
        return told(x)


@samovar.model(max_batch_size=1, max_queue_items=2, max_queue_bytes=1_000)
class Narrow:
    """One at a time, two may wait, and 1,000 bytes."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Told:
        wait(x)
        return told(x)


@samovar.model(instances=3, max_batch_size=1)
class Three:
    """Three instances, one row each."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Told:
        wait(x)
        return told(x)


@samovar.model(max_batch_size=4, max_queue_delay_ms=60_000)
class Patient:
    """Waits a minute for four rows."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Told:
        return told(x)


@samovar.model(max_batch_size=4, max_queue_delay_ms=50)
class Polite:
    """Waits 50 ms for four rows."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Told:
        return told(x)


@samovar.model(concurrency=8, max_batch_size=1)
class Together:
    """Coroutines that end only when as many of them run as each asks for."""

    def load(self) -> None:
        self.running = 0
        self.most = 0
        self.changed = asyncio.Condition()

    async def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Int64[np.ndarray, "batch 1"]:
        async with self.changed:
            self.running += 1
            self.most = max(self.most, self.running)
            self.changed.notify_all()
            await self.changed.wait_for(lambda: self.most >= x[0, 0])
        await asyncio.sleep(0)
        self.running -= 1
        return np.full((1, 1), self.most, np.int64)
