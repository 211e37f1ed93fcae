"""From files of images to the pixels that a model takes."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samovar.errors import InvalidInputError
from samovar.types import Datatype

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["CHANNELS", "LAYOUTS", "RESAMPLES", "Images", "Preparation", "opened"]

CHANNELS = {"RGB": 3, "BGR": 3, "L": 1}
LAYOUTS = ("NCHW", "NHWC")
RESAMPLES = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # in the order of Pillow's numbers
_BASE64 = re.compile(rb"data:|[A-Za-z0-9+/]{24}")  # no file of an image begins so


@dataclass(frozen=True)
class Preparation:
    """What happens to an image, in this order; lengths are height and width.

    One length of `resize` is that of the shorter side. `mean` and `std` stand in the order of the channels. A model
    that takes bytes gets the pixels as they are.
    """

    resize: tuple[int, int] | int | None
    resample: str
    crop: tuple[int, int] | None
    channels: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: str

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of every prepared image; None where they differ."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)


class Images:
    """The input `name` of images: files of JPEG, PNG and the like, or their base64, as JSON carries them.

    `datatype` is that of the pixels; the preparation makes all images equally large.
    """

    def __init__(self, name: str, datatype: Datatype, preparation: Preparation) -> None:
        import numpy as np
        from PIL import Image

        from samovar.codecs.elements import dtype_of
        from samovar.service.images import encoded

        assert preparation.size is not None, "the description has seen to it"
        self._np = np
        self._dtype = dtype_of(datatype)
        self._preparation = preparation
        self._mean = np.array(preparation.mean, np.float32)
        self._std = np.array(preparation.std, np.float32)
        channels = CHANNELS[preparation.channels]
        is_first = preparation.layout == "NCHW"
        self._shape = (channels, *preparation.size) if is_first else (*preparation.size, channels)
        self.name = name
        self.blank = encoded(Image.new("RGB", (8, 8)), "png")
        """A file of a black image."""

    def pixels(self, files: Any) -> Any:
        """The prepared pixels of an object array of files, along three more axes. Raises InvalidInputError."""
        prepared = self._np.empty((files.size, *self._shape), self._dtype)
        for index, image in enumerate(opened(self.name, files, lambda image: _resized(image, self._preparation))):
            prepared[index] = self._prepared(image)
        return prepared.reshape(*files.shape, *self._shape)

    def _prepared(self, image: "Image") -> Any:
        """The pixels of an image that has its size."""
        settings = self._preparation
        image = _cropped(image, settings)
        if settings.channels == "L":
            image = image.convert("L")
        pixels = self._np.asarray(image).reshape(image.height, image.width, -1)
        if settings.channels == "BGR":
            pixels = pixels[..., ::-1]
        if self._dtype.kind == "f":
            pixels = (pixels.astype(self._np.float32) * settings.scale - self._mean) / self._std
        return pixels.transpose(2, 0, 1) if settings.layout == "NCHW" else pixels


def opened(name: str, files: Any, change: Callable[["Image"], "Image"] = lambda image: image) -> Iterator["Image"]:
    """The images in the input `name`: files of JPEG, PNG and the like, or their base64, as JSON carries them.

    Each is upright, RGB and changed. Raises InvalidInputError.
    """
    from pydantic_core import PydanticCustomError

    from samovar.service.images import decoded, unbase64

    for index, data in enumerate(files.ravel().tolist()):
        try:
            yield change(decoded(unbase64(data.decode("ascii", "replace")) if _BASE64.match(data) else data))
        except PydanticCustomError as error:
            raise InvalidInputError(f'element {index} of input "{name}": {error.message()}') from None


def _resized(image: "Image", settings: Preparation) -> "Image":
    """Raises PydanticCustomError where the longer side would become a bomb."""
    from PIL import Image
    from pydantic_core import PydanticCustomError

    from samovar.service.images import MAX_PIXELS

    if settings.resize is None:
        return image
    height, width = image.height, image.width
    if isinstance(settings.resize, tuple):
        height, width = settings.resize
    else:
        short = settings.resize
        height, width = (short, short * width // height) if height <= width else (short * height // width, short)
    if height * width > MAX_PIXELS:  # one of 1 x 50,000,000 is itself allowed
        text = f"the image is {image.width} x {image.height}, too long for its shorter side to be resized; crop it"
        raise PydanticCustomError("image", "{text}", {"text": text})
    return image.resize((width, height), Image.Resampling(RESAMPLES.index(settings.resample)))


def _cropped(image: "Image", settings: Preparation) -> "Image":
    """The middle; what lies outside of a smaller image is black, as for torchvision."""
    if settings.crop is None:
        return image
    height, width = settings.crop
    top, left = (image.height - height) // 2, (image.width - width) // 2
    return image.crop((left, top, left + width, top + height))
