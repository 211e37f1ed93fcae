"""Methods and models that yield; what becomes of a generator stands in the file that its `note` names.

An item is made at once, or waits: `hold` is the number of the item before which a generator waits until the file
`<note>.go` is there, or for ever.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

import samovar

PAUSE_S = 0.005


def write(note: str, line: str) -> None:
    """Append a line in one write."""
    if note:
        file = os.open(note, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, f"{line}\n".encode())
        os.close(file)


@dataclass
class Item:
    """An object."""

    number: int
    halves: Float32[np.ndarray, "n"]


def numbers(count: int, fail: int, hold: int, note: str) -> Iterator[int]:
    """Numbers below `count`; it raises in place of `fail`."""
    write(note, f"begun by {os.getpid()}")
    try:
        for number in range(count):
            while number == hold and not Path(f"{note}.go").exists():
                time.sleep(PAUSE_S)
            if number == fail:
                raise ValueError(f"number {number} is not there")
            write(note, f"made {number}")
            yield number
    finally:
        write(note, "closed")


async def async_numbers(count: int, fail: int, hold: int, note: str) -> AsyncIterator[int]:
    """The same."""
    write(note, f"begun by {os.getpid()}")
    try:
        for number in range(count):
            while number == hold and not Path(f"{note}.go").exists():  # noqa: ASYNC110, ASYNC240 - the test's event
                await asyncio.sleep(PAUSE_S)
            if number == fail:
                raise ValueError(f"number {number} is not there")
            write(note, f"made {number}")
            yield number
    finally:
        write(note, "closed")


Number = Int64[np.ndarray, "1"]
Name = samovar.Bytes[np.ndarray, "1"]


@samovar.model
class Counting:
    """Numbers as parts."""

    def predict(self, count: Number, fail: Number, hold: Number, note: Name) -> Iterator[Number]:
        for number in numbers(int(count[0]), int(fail[0]), int(hold[0]), note[0].decode()):
            yield np.array([number])


@samovar.model(concurrency=8)
class AsyncCounting:
    """The same, several at a time."""

    async def predict(self, count: Number, fail: Number, hold: Number, note: Name) -> AsyncIterator[Number]:
        made = async_numbers(int(count[0]), int(fail[0]), int(hold[0]), note[0].decode())
        try:
            async for number in made:
                yield np.array([number])
        finally:
            await made.aclose()  # type: ignore[attr-defined]  # a generator


@samovar.model
class Pouring:
    """Parts of 64 KiB."""

    def predict(self, count: Number, note: Name) -> Iterator[Float32[np.ndarray, "rows 128"]]:
        for number in range(int(count[0])):
            write(note[0].decode(), f"made {number}")
            yield np.full((128, 128), number, np.float32)


@samovar.service
class Streams:
    """Numbers as items, its own and those of models."""

    counting = samovar.use(Counting)
    async_counting = samovar.use(AsyncCounting)
    pouring = samovar.use(Pouring)

    @samovar.api
    async def count(
        self, count: int, fail: int = -1, hold: int = -1, note: str = "", pause: float = 0.0
    ) -> AsyncIterator[int]:
        made = async_numbers(count, fail, hold, note)
        try:
            async for number in made:
                yield number
                await asyncio.sleep(pause)
        finally:
            await made.aclose()  # type: ignore[attr-defined]

    @samovar.api
    def count_sync(self, count: int, fail: int = -1, hold: int = -1, note: str = "") -> Iterator[int]:
        yield from numbers(count, fail, hold, note)

    @samovar.api
    async def through(
        self, count: int, fail: int = -1, hold: int = -1, note: str = "", is_async: bool = False
    ) -> AsyncIterator[int]:
        model = self.async_counting if is_async else self.counting
        async for part in model.predict([count], [fail], [hold], [note.encode()]):
            yield int(part[0])

    @samovar.api
    def through_sync(self, count: int, fail: int = -1, hold: int = -1, note: str = "") -> Iterator[int]:
        for part in self.counting.predict.sync([count], [fail], [hold], [note.encode()]):
            yield int(part[0])

    @samovar.api(method="GET")
    async def pid(self) -> int:
        return os.getpid()

    @samovar.api(method="GET")
    async def items(self, count: int = 2) -> AsyncIterator[Item]:
        for number in range(count):
            yield Item(number=number, halves=np.array([number / 2], np.float32))

    @samovar.api
    async def misfits(self, first: int) -> AsyncIterator[int]:
        """One item is none."""
        for number in range(3):
            yield "three" if number == first else number  # type: ignore[misc]

    @samovar.api
    async def pour(self, count: int, note: str) -> AsyncIterator[str]:
        """Items of 64 KiB."""
        for number in range(count):
            write(note, f"made {number}")
            yield f"{number:065533d}"

    @samovar.api
    async def pour_through(self, count: int, note: str) -> AsyncIterator[str]:
        async for part in self.pouring.predict([count], [note.encode()]):
            yield f"{int(part[0, 0]):065533d}"
