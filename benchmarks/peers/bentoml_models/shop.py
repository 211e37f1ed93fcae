"""The service of the benchmark of typed services, as somebody writes it who has BentoML."""

import bentoml
from pydantic import BaseModel


class Item(BaseModel):
    """Something to buy."""

    name: str
    price: float


class Total(BaseModel):
    """What it costs."""

    price: float
    count: int


@bentoml.service
class Shop:
    """Adds prices."""

    @bentoml.api
    async def total(self, items: list[Item], note: str = "") -> Total:
        """The sum."""
        del note
        return Total(price=sum(item.price for item in items), count=len(items))
