"""The service of the benchmark of typed services."""

from pydantic import BaseModel

import samovar


class Item(BaseModel):
    """Something to buy."""

    name: str
    price: float


class Total(BaseModel):
    """What it costs."""

    price: float
    count: int


@samovar.service
class Shop:
    """Adds prices."""

    @samovar.api
    async def total(self, items: list[Item], note: str = "") -> Total:
        """The sum."""
        del note
        return Total(price=sum(item.price for item in items), count=len(items))
