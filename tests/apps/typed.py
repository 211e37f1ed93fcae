"""A service with a method for each form that a request or an answer may have."""

import hashlib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fastapi import HTTPException
from jaxtyping import Float32, UInt8
from pydantic import BaseModel, Field
from starlette.responses import Response

import samovar


class Unit(Enum):
    """A choice."""

    METRE = "m"
    MILE = "mi"


class Place(BaseModel):
    """An object with an object in it."""

    name: str = Field(min_length=1)
    at: tuple[float, float]
    tags: dict[str, str] = {}


class Received(NamedTuple):
    """What came of an upload."""

    size: int
    digest: str
    name: str


class Extremes(NamedTuple):
    """Two outputs."""

    low: float
    high: float


def received(data: bytes, name: str = "") -> Received:
    return Received(len(data), hashlib.sha256(data).hexdigest(), name)


@samovar.service
class Typed:
    """Says what it was sent."""

    @samovar.api
    def add(self, a: int, b: int = 1) -> int:
        """The sum."""
        return a + b

    @samovar.api
    async def extremes(self, x: Float32[np.ndarray, "n"]) -> Extremes:
        return Extremes(float(x.min()), float(x.max()))

    @samovar.api
    async def scale(self, x: Float32[np.ndarray, "rows 2"], factor: float = 2.0) -> Float32[np.ndarray, "rows 2"]:
        return x * np.float32(factor)

    @samovar.api
    async def shout(self, text: str) -> str:
        return text.upper()

    @samovar.api
    async def digest(self, data: bytes) -> Received:
        return received(data)

    @samovar.api
    async def keep(self, file: samovar.File, note: str = "") -> Received:
        return received(await file.read(), f"{file.filename}:{note}")

    @samovar.api
    def turn(self, image: samovar.Image, degrees: int = 90) -> samovar.Image:
        return image.rotate(degrees, expand=True)

    @samovar.api
    def shape(self, pixels: UInt8[np.ndarray, "height width 3"]) -> list[int]:
        return list(pixels.shape)

    @samovar.api
    async def move(self, place: Place, unit: Unit = Unit.METRE, by: list[float] = [1.0]) -> Place:  # noqa: B006
        step = sum(by) * (1609.344 if unit is Unit.MILE else 1)
        return place.model_copy(update={"at": (place.at[0] + step, place.at[1])})

    @samovar.api(path="/typed/rooms/{number}/beds/{bed}", method="GET")
    async def bed(
        self, number: int, bed: str, unit: Unit = Unit.METRE, tags: list[str] | None = None
    ) -> dict[str, Any]:
        return {"number": number, "bed": bed, "unit": unit, "tags": tags}

    @samovar.api(path="/typed/rooms/{number}", method="DELETE")
    async def leave(self, number: int) -> None:
        assert number > 0

    @samovar.api(method="PUT", idempotent=True)
    async def put(self, value: float) -> float:
        return value

    @samovar.api
    async def told(self, context: samovar.Context) -> dict[str, Any]:
        """What is known of the request."""
        headers: Mapping[str, str] = context.headers
        return {
            "id": context.id,
            "headers": dict(headers),
            "trace": context.trace,
            "remaining_s": context.remaining_s(),
        }

    @samovar.api
    async def fail(self, kind: str) -> int:
        """An error of this kind."""
        match kind:
            case "exception":
                raise ValueError("no such thing")
            case "http":
                raise HTTPException(409, {"taken": True}, headers={"x-why": "taken"})
            case "input":
                raise samovar.InvalidInputError("that is too much")
            case "result":
                return "three"  # type: ignore[return-value]
        return 0

    @samovar.api(method="GET")
    async def nothing(self) -> None:
        pass

    @samovar.api(method="GET")
    async def large(self, size: int) -> bytes:
        return b"\xa5" * size

    @samovar.api(method="GET")
    async def path(self) -> Path:
        return Path(__file__)

    @samovar.api(method="GET")
    async def response(self, status: int, body: str = "") -> Response:
        return Response(body, status, {"x-mine": "yes"}, "text/plain")
