"""A text that comes word by word: a model that yields, and a service that passes its words on as they come."""

import random
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Annotated

import numpy as np
from jaxtyping import Int64
from pydantic import BaseModel, Field

import samovar

TEXT = "the kettle sang and the cat slept and the rain fell and the kettle slept and the cat sang to the rain ."
PAUSE_S = 0.05  # a large model takes its time for each word


class Word(BaseModel):
    number: int
    text: str


@samovar.model
class Teller:
    """Draws each word from those that follow the one before it in TEXT."""

    def load(self) -> None:
        words = TEXT.split()
        self.following: dict[str, list[str]] = {}
        for word, following in pairwise(words):
            self.following.setdefault(word, []).append(following)

    def predict(
        self, words: Int64[np.ndarray, "1"], seed: Int64[np.ndarray, "1"]
    ) -> Iterator[samovar.Bytes[np.ndarray, "n"]]:
        chance = random.Random(int(seed[0]))
        word = "the"
        for _ in range(words[0]):
            yield np.array([word.encode()], object)
            time.sleep(PAUSE_S)
            word = chance.choice(self.following.get(word, ["the"]))


@samovar.service
class Story:
    """Short stories."""

    teller = samovar.use(Teller)

    @samovar.api
    async def tell(self, words: Annotated[int, Field(ge=1, le=1000)] = 12, seed: int = 1) -> AsyncIterator[Word]:
        """A story, word by word."""
        number = 0
        async for part in self.teller.predict([words], [seed]):
            number += 1
            yield Word(number=number, text=part[0].decode())
