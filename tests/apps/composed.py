"""Services and models that call models; what each row runs through stands in the file that its `note` names.

The first number of a row says what becomes of it: INVALID, RAISES, DIES, or WAITS until the file `<note>.go` is there.
"""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from starlette.background import BackgroundTask
from starlette.responses import Response

import samovar

INVALID, RAISES, DIES, WAITS = -10.0, -20.0, -30.0, -40.0
PAUSE_S = 0.005

Rows = Float32[np.ndarray, "batch n"]
Names = samovar.Bytes[np.ndarray, "batch"]


def write(note: str, line: str) -> None:
    """Append a line in one write."""
    if note:
        file = os.open(note, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, f"{line}\n".encode())
        os.close(file)


def added(name: str, x: np.ndarray, notes: np.ndarray, *, waits: bool = True) -> np.ndarray:
    """One more, unless a row wants something else."""
    for row, note in zip(x, notes, strict=True):
        write(note.decode(), f"{name} {os.getpid()}")
        if row[0] == INVALID:
            raise samovar.InvalidInputError("the row is bad")
        if row[0] == RAISES:
            raise ValueError("the row is too hard")
        if row[0] == DIES:
            os.kill(os.getpid(), signal.SIGKILL)
        while waits and row[0] == WAITS and not Path(f"{note.decode()}.go").exists():
            time.sleep(PAUSE_S)
    return x + 1


@samovar.model(max_batch_size=8)
class First:
    def predict(self, x: Rows, note: Names) -> Rows:
        return added("first", x, note)


@samovar.model(max_batch_size=1, max_queue_items=2)
class Second:
    """One row at a time, and few may wait."""

    def predict(self, x: Rows, note: Names) -> Rows:
        return added("second", x, note)


@samovar.model(max_batch_size=1, concurrency=16)
class Patient:
    """Waits without holding anybody up; its cancellation is noted."""

    async def predict(self, x: Rows, note: Names) -> Rows:
        sum_ = added("patient", x, note, waits=False)
        try:
            while x[0, 0] == WAITS and not Path(f"{note[0].decode()}.go").exists():  # noqa: ASYNC110, ASYNC240
                await asyncio.sleep(PAUSE_S)
        except asyncio.CancelledError:
            write(note[0].decode(), "cancelled")
            raise
        return sum_


class Halves(NamedTuple):
    """Two outputs."""

    low: Rows
    high: Rows


@samovar.model
class Split:
    def predict(self, x: Rows) -> Halves:
        return Halves(x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :])


@samovar.model(max_batch_size=4)
class Chained:
    """A model of models."""

    first = samovar.use(First)
    second = samovar.use(Second)

    def predict(self, x: Rows, note: Names) -> Rows:
        between = self.first.predict.sync(x, note)
        return self.second.predict.sync(between, note)


@samovar.model(max_batch_size=4, concurrency=8)
class AsyncChained:
    """The same as a coroutine, of a model of models."""

    chained = samovar.use(Chained)
    patient = samovar.use(Patient)

    async def predict(self, x: Rows, note: Names) -> Rows:
        return await self.patient.predict(await self.chained.predict(x, note=note), note)


@samovar.service
class Pipeline:
    """Rows through models."""

    first = samovar.use(First)
    second = samovar.use(Second)
    patient = samovar.use(Patient)
    split = samovar.use(Split)
    chained = samovar.use(Chained)
    async_chained = samovar.use(AsyncChained)

    @samovar.api
    async def both(self, x: list[float], note: str = "") -> list[float]:
        """Through the first and the second."""
        between = await self.first.predict([x], [note.encode()])
        write(note, "between")
        return list((await self.second.predict(between, [note.encode()]))[0])

    @samovar.api
    def both_sync(self, x: list[float], note: str = "") -> list[float]:
        between = self.first.predict.sync([x], [note.encode()])
        write(note, "between")
        return list(self.second.predict.sync(between, [note.encode()])[0])

    @samovar.api
    async def waiting(self, x: list[float], note: str = "") -> list[float]:
        """Through the patient and the second."""
        between = await self.patient.predict([x], [note.encode()])
        return list((await self.second.predict(between, [note.encode()]))[0])

    @samovar.api
    async def chain(self, x: list[float], note: str = "", is_async: bool = False) -> list[float]:
        model = self.async_chained if is_async else self.chained
        return list((await model.predict([x], [note.encode()]))[0])

    @samovar.api
    async def gathered(self, count: int) -> list[float]:
        found = await asyncio.gather(*(self.first.predict([[number]], [b""]) for number in range(count)))
        return [float(one[0, 0]) for one in found]

    @samovar.api
    async def large(self, mebibytes: int) -> list[float]:
        """An array through two models; its two ends, and how many numbers it has."""
        x = np.arange(mebibytes << 18, dtype=np.float32)[None]
        once = await self.first.predict(x, [b""])
        split = await self.split.predict(await self.second.predict(once, [b""]))
        return [float(split.low[0, 0]), float(split.high[0, -1] - x[0, -1]), split.low.size + split.high.size]

    @samovar.api
    async def careful(self, x: list[float]) -> str:
        """What is caught of a step."""
        try:
            await self.first.predict([x], [b""])
        except samovar.StepError as error:
            return f"{error.model} {error.code}"
        return "well"

    @samovar.api
    async def misfit(self) -> None:
        """Arguments that the model does not take."""
        await self.first.predict(np.ones((1, 2), np.float64), [b""])

    @samovar.api
    async def afterwards(self, x: list[float], note: str) -> Response:
        """Answers before the first step."""

        async def step() -> None:
            await self.first.predict([x], [note.encode()])
            write(note, "stepped")

        return Response("answered", background=BackgroundTask(step))

    @samovar.api(method="GET")
    async def pid(self) -> int:
        return os.getpid()

    @samovar.api
    async def tensors(self, x: Rows) -> Rows:
        """Over tensor protocols too."""
        return await self.first.predict(x, [b""] * len(x))
