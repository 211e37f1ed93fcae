"""A service in JSON: what its methods take and give has every shape that annotations may have."""

import dataclasses
import itertools
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

import numpy as np
from fastapi import HTTPException
from jaxtyping import Float32, Int64
from pydantic import BaseModel, ConfigDict, Field

import samovar

Count = Annotated[int, Field(ge=1, le=1_000)]
Name = Annotated[str, Field(min_length=1, max_length=40)]


class Size(Enum):
    SMALL = "small"
    LARGE = "large"
    THREE = 3


class Address(BaseModel):
    model_config = ConfigDict(extra="forbid")

    street: Name
    postcode: Annotated[str, Field(pattern=r"^[0-9]{5}$")]
    country: Literal["FI", "SE", "DE"] = "FI"


class Card(BaseModel):
    kind: Literal["card"]
    number: Annotated[str, Field(pattern=r"^[0-9]{16}$")]
    until: date


class Invoice(BaseModel):
    kind: Literal["invoice"]
    to: Address | None = None


@dataclasses.dataclass
class Line:
    article: Name
    count: Count
    price: Annotated[float, Field(gt=0, le=1e6)]
    size: Size = Size.SMALL
    wishes: dict[str, bool | int | str] = dataclasses.field(default_factory=dict)


class Order(BaseModel):
    number: int
    customer: Name
    lines: list[Line]
    payment: Annotated[Card | Invoice, Field(discriminator="kind")]
    placed: datetime | None = None


class Part(BaseModel):
    """A part of parts of parts."""

    name: Name
    weight_g: Annotated[float, Field(ge=0, lt=1e9)] = 0.0
    parts: Annotated[list["Part"], Field(max_length=3)] = []


class Extent(NamedTuple):
    low: float
    high: float
    middle: float | None = None


ANY_PRICE = Extent(0.0, 1e6)


@samovar.service
class Orders:
    """Orders of a shop that forgets them when it closes."""

    def __init__(self) -> None:
        self.placed: dict[int, Order] = {}
        self.numbers = itertools.count(1)

    @samovar.api(path="/orders")
    async def place(
        self,
        customer: Name,
        lines: Annotated[list[Line], Field(min_length=1, max_length=5)],
        payment: Annotated[Card | Invoice, Field(discriminator="kind")],
        placed: datetime | None = None,
    ) -> Order:
        """Place an order.

        It is kept until it is cancelled.
        """
        order = Order(number=next(self.numbers), customer=customer, lines=lines, payment=payment, placed=placed)
        self.placed[order.number] = order
        return order

    @samovar.api(path="/orders/{number}", method="GET")
    async def show(self, number: int) -> Order:
        """An order by its number."""
        return self.known(number)

    @samovar.api(path="/orders/{number}/lines/{place}", method="PUT", idempotent=True)
    async def change(self, number: int, place: Annotated[int, Field(ge=0, le=4)], line: Line) -> Line:
        """Another line in the place of one."""
        lines = self.known(number).lines
        if place >= len(lines):
            raise HTTPException(404, f"order {number} has {len(lines)} lines")
        lines[place] = line
        return line

    @samovar.api(method="GET")
    def search(
        self,
        text: Annotated[str, Field(max_length=20)] = "",
        sizes: Annotated[list[Size] | None, Field(max_length=4)] = None,
        most: Count = 10,
        is_paid: bool | None = None,
        since: date | None = None,
        price: Extent = ANY_PRICE,
        near: Address | UUID | None = None,
    ) -> list[int]:
        """The numbers of orders, by what is asked of them."""
        low, high, _ = price
        fits = (line for order in self.placed.values() for line in order.lines if low <= line.price <= high)
        return [number for number, _ in enumerate(fits)][:most]

    @samovar.api
    def weigh(self, part: Part) -> dict[str, float]:
        """The weight of a part with all its parts, by name."""
        weights = {part.name: part.weight_g}
        for inner in part.parts:
            for name, weight in self.weigh(inner).items():
                weights[name] = weights.get(name, 0.0) + weight
        return weights

    @samovar.api
    def measure(self, points: Float32[np.ndarray, "n 3"], counts: Int64[np.ndarray, "m"] | None = None) -> Extent:
        """The extent of points; it has no middle where there are none."""
        if not points.size:
            return Extent(0.0, 0.0)
        return Extent(float(points.min()), float(points.max()), float(points.mean()))

    @samovar.api(method="DELETE", path="/orders/{number}")
    async def cancel(self, number: int) -> None:
        """Forget an order."""
        self.known(number)
        del self.placed[number]

    def known(self, number: int) -> Order:
        if number not in self.placed:
            raise HTTPException(404, f"no order has the number {number}")
        return self.placed[number]
