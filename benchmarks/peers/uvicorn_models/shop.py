"""The service of shop.py, as somebody writes it who has FastAPI alone."""

from fastapi import FastAPI
from pydantic import BaseModel


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


app = FastAPI()


@app.post("/shop/total")
async def total(order: Order) -> Total:
    """The sum."""
    return Total(price=sum(item.price for item in order.items), count=len(order.items))
