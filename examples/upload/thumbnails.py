"""Uploads: an image with fields beside it comes in, an image goes out; files of any size are read piece by piece."""

import hashlib
from typing import Annotated, Literal

from PIL import Image, ImageOps
from pydantic import BaseModel, Field

import samovar

Width = Annotated[int, Field(ge=16, le=1024)]


class Upload(BaseModel):
    name: str
    size: int
    sha256: str


@samovar.service
class Thumbnails:
    """Small pictures of large ones."""

    @samovar.api
    def make(
        self, photo: samovar.Image, width: Width = 128, border: Literal["none", "white", "black"] = "none"
    ) -> samovar.Image:
        """The photo in the width that is wanted: PNG, or JPEG where Accept prefers it."""
        small = photo.resize((width, max(1, round(photo.height * width / photo.width))), Image.Resampling.LANCZOS)
        return small if border == "none" else ImageOps.expand(small, border=4, fill=border)

    @samovar.api(idempotent=True)
    async def inspect(self, files: list[samovar.File]) -> list[Upload]:
        """Name, size and checksum of each file, none of which is in memory as a whole."""
        return [await checked(file) for file in files]


async def checked(file: samovar.File) -> Upload:
    digest, size = hashlib.sha256(), 0
    while piece := await file.read(1 << 20):
        digest.update(piece)
        size += len(piece)
    return Upload(name=file.filename or "", size=size, sha256=digest.hexdigest())
