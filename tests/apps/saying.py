"""A service that says and counts what it does, in every way that Python has."""

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import numpy as np
from jaxtyping import Int64
from prometheus_client import Counter

import samovar

WORDS = Counter("words", "Words that were said", ["how"])
Number = Int64[np.ndarray, "1"]


@samovar.model
class Murmuring:
    """Says a number."""

    def predict(self, number: Number, context: samovar.Context) -> Number:
        print(f"murmured {number[0]}")
        context.logger.info("logged %s", number[0])
        context.metrics.counter("murmurs", "Numbers that were said").inc()
        return number


@samovar.service
class Saying:
    """Two requests that are there together say their words in turns."""

    murmuring = samovar.use(Murmuring)

    def load(self) -> None:
        print("loads")
        self.both = asyncio.Barrier(2)
        self.both_threads = threading.Barrier(2)

    def say(self, word: str, how: str, context: samovar.Context) -> None:
        """A line in every way there is."""
        print(f"{word} printed")
        sys.stderr.write(f"{word} written\n")
        logging.getLogger("mine").warning("%s warned", word)
        context.logger.info("%s logged", word)
        WORDS.labels(how).inc()
        context.metrics.gauge("lengths", "Length of a word", ["how"]).labels(how).set(len(word))

    @samovar.api
    async def once(self, word: str, context: samovar.Context) -> str:
        self.say(word, "async", context)
        return word

    @samovar.api
    async def together(self, word: str, context: samovar.Context) -> str:
        """Two at a time."""
        async with asyncio.timeout(20):
            await self.both.wait()
            self.say(f"{word} first", "async", context)
            await self.both.wait()
            self.say(f"{word} then", "async", context)
            return word

    @samovar.api
    def together_sync(self, word: str, context: samovar.Context) -> str:
        self.both_threads.wait(20)
        self.say(f"{word} first", "sync", context)
        self.both_threads.wait(20)
        self.say(f"{word} then", "sync", context)
        return word

    @samovar.api
    async def stream(self, word: str, context: samovar.Context) -> AsyncIterator[str]:
        for letter in word:
            self.say(letter, "stream", context)
            yield letter

    @samovar.api
    def stream_sync(self, word: str, context: samovar.Context) -> Iterator[str]:
        for letter in word:
            self.say(letter, "stream", context)
            yield letter

    @samovar.api
    async def murmur(self, number: int) -> int:
        """Through the model."""
        return int((await self.murmuring.predict([number]))[0])

    @samovar.api
    async def number(self, number: int, context: samovar.Context) -> int:
        """Over tensor protocols too."""
        self.say(str(number), "tensor", context)
        return number
