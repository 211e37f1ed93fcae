"""A service of forms and raw bodies: images, files, bytes, texts and arrays, alone and with fields beside them."""

import hashlib
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import ImageOps
from pydantic import BaseModel, Field

import samovar

Width = Annotated[int, Field(ge=1, le=64)]


class Described(BaseModel):
    width: int
    height: int
    title: str
    tags: list[str]
    stars: int | None


class Sum(BaseModel):
    name: str
    size: int
    sha256: str


class Place(BaseModel):
    left: Annotated[int, Field(ge=0, le=100)]
    top: Annotated[int, Field(ge=0, le=100)]


@samovar.service
class Photos:
    """What is done with photos."""

    @samovar.api
    def describe(
        self,
        photo: samovar.Image,
        title: Annotated[str, Field(min_length=1, max_length=30)],
        tags: Annotated[list[Annotated[str, Field(max_length=10)]], Field(max_length=3)] = [],  # noqa: B006
        stars: Annotated[int, Field(ge=1, le=5)] | None = None,
    ) -> Described:
        """A photo with fields beside it."""
        return Described(width=photo.width, height=photo.height, title=title, tags=tags, stars=stars)

    @samovar.api(idempotent=True)
    def shrink(self, photo: samovar.Image, width: Width, colour: Literal["all", "grey"] = "all") -> samovar.Image:
        """A smaller photo, as PNG or JPEG."""
        small = photo.resize((width, max(1, photo.height * width // photo.width)))
        return small.convert("L") if colour == "grey" else small

    @samovar.api
    def invert(self, photo: samovar.Image) -> samovar.Image | None:
        """One photo and nothing else: the body itself; a tiny one has no answer but null."""
        return ImageOps.invert(photo) if photo.width > 1 else None

    @samovar.api
    def brightness(self, photo: UInt8[np.ndarray, "h w 3"], scale: float = 1.0) -> Float32[np.ndarray, "3"]:
        """The mean of each colour; the photo is an image, or an array in JSON or npy."""
        return (photo.reshape(-1, 3).mean(0) * min(abs(scale), 10.0) if photo.size else np.zeros(3)).astype(np.float32)

    @samovar.api
    def stretch(self, heights: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
        """An array alone: JSON or npy."""
        return np.nan_to_num(heights) / 2

    @samovar.api
    async def check(self, files: list[samovar.File], kind: Literal["md5", "sha256"] = "sha256") -> list[Sum]:
        """Files, read piece by piece."""
        return [await checked(file) for file in files]

    @samovar.api
    async def check_one(self, file: samovar.File) -> Sum:
        """One file: the body itself, or a form's."""
        return await checked(file)

    @samovar.api
    def crop(self, photo: samovar.Image, places: Annotated[list[Place], Field(max_length=2)]) -> list[samovar.Image]:
        """Objects beside a photo: JSON alone; the images in the answer are base64."""
        return [photo.crop((place.left, place.top, place.left + 1, place.top + 1)) for place in places]

    @samovar.api
    def reverse(self, data: bytes) -> bytes:
        """Bytes to bytes."""
        return data[::-1]

    @samovar.api
    def count(self, text: Annotated[str, Field(max_length=100)]) -> int:
        """A text alone."""
        return len(text)


async def checked(file: samovar.File) -> Sum:
    digest, size = hashlib.sha256(), 0
    while piece := await file.read(1 << 20):
        digest.update(piece)
        size += len(piece)
    return Sum(name=file.filename or "", size=size, sha256=digest.hexdigest())
