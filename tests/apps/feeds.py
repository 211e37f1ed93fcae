"""A service whose methods yield: coroutines and plain generators, values of every kind, none at all, a late fault."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import numpy as np
from jaxtyping import Float32
from PIL import Image
from pydantic import BaseModel, Field

import samovar

Few = Annotated[int, Field(ge=0, le=20)]


class Word(BaseModel):
    number: int
    text: str | None = None


@samovar.service
class Feeds:
    """Answers that come in pieces."""

    @samovar.api
    async def words(self, text: str, most: Few = 5) -> AsyncIterator[Word]:
        """The words of a text, one by one."""
        for number, word in enumerate(text.split()[:most]):
            yield Word(number=number, text=word)

    @samovar.api(path="/feeds/{first}/count", method="GET")
    def count(self, first: int, step: Annotated[int, Field(ge=1, le=9)] = 1, most: Few = 3) -> Iterator[int]:
        """Numbers from the first on, by a step."""
        for place in range(most):
            yield first + place * step

    @samovar.api
    def waves(self, phase: Float32[np.ndarray, "n"], most: Few = 2) -> Iterator[Float32[np.ndarray, "n"]]:
        """Arrays from an array."""
        for place in range(most):
            yield np.sin(np.nan_to_num(phase) + np.float32(place))

    @samovar.api
    async def frames(self, most: Few = 2) -> AsyncIterator[samovar.Image | None]:
        """Images and holes, each as base64 or null."""
        for place in range(most):
            yield Image.new("RGB", (2, 2)) if place % 2 else None

    @samovar.api
    def until(self, limit: Few) -> Iterator[Word]:
        """Numbers up to 5; who wants more is told half way that there are none, in the last line."""
        for number in range(limit):
            if number == 5:
                raise samovar.InvalidInputError("there are no numbers above 4")
            yield Word(number=number)
