"""The service of the benchmark of typed services, as somebody writes it who has Ray Serve."""

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

api = FastAPI()


class Item(BaseModel):
    """Something to buy."""

    name: str
    price: float


class Order(BaseModel):
    """What is bought."""

    items: list[Item]
    note: str = ""


class Total(BaseModel):
    """What it costs."""

    price: float
    count: int


@serve.deployment(max_ongoing_requests=1000)
@serve.ingress(api)
class Shop:
    """Adds prices."""

    @api.post("/total")
    async def total(self, order: Order) -> Total:
        """The sum."""
        return Total(price=sum(item.price for item in order.items), count=len(order.items))


app = Shop.bind()
