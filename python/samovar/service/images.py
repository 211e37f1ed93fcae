"""Images: from a file's bytes or base64 to Pillow, and back."""

import binascii
from base64 import b64decode, b64encode
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_PIXELS", "ImageValue", "decoded", "encoded", "unbase64"]

MAX_PIXELS = 50_000_000
# None of them runs another program or reads another file: Pillow's EPS starts Ghostscript.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")


class ImageValue:
    """How pydantic reads and writes images: base64 in JSON, bytes elsewhere; RGB, upright by their EXIF orientation."""

    def __get_pydantic_core_schema__(self, _: Any, __: Any) -> CoreSchema:
        return core_schema.json_or_python_schema(
            core_schema.no_info_after_validator_function(
                lambda text: decoded(unbase64(text)), core_schema.str_schema(strict=True)
            ),
            core_schema.no_info_plain_validator_function(_of_python),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda image: b64encode(encoded(image, "png")).decode()
            ),
        )

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: Any) -> dict[str, Any]:
        media = "image/png" if handler.mode == "serialization" else "image/*"
        return {"type": "string", "format": "image-base64", "contentEncoding": "base64", "contentMediaType": media}


def decoded(data: bytes) -> "Image":
    """The image in a file's bytes: RGB, upright. Raises PydanticCustomError; a large one is refused undecoded."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            if width * height <= MAX_PIXELS:
                # Both would copy an image that is upright and RGB already: 1 ms each for two megapixels.
                ImageOps.exif_transpose(image, in_place=True)
                image.load()
                return image if image.mode == "RGB" else image.convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _error(f"the image has far more than {MAX_PIXELS // 1_000_000} megapixels; send a smaller one") from None
    except Exception as error:  # noqa: BLE001 - of any of Pillow's decoders
        reason = str(error) if not isinstance(error, UnidentifiedImageError) else "its format is unknown"
        raise _error(f"no image can be read: {reason}; send one of {', '.join(_formats())}") from None
    raise _error(f"the image is {width} x {height}, more than {MAX_PIXELS // 1_000_000} megapixels; send a smaller one")


def encoded(image: "Image", kind: str) -> bytes:
    """A file of the image; `kind` is png or jpeg."""
    buffer = BytesIO()
    if kind == "jpeg" and image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    image.save(buffer, kind)
    return buffer.getvalue()


def unbase64(text: str) -> bytes:
    """The bytes of a base64 text; `data:image/png;base64,` before it is what browsers write."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PydanticCustomError("base64", "{text}", {"text": f"it is no base64: {error}"}) from None


def _of_python(value: Any) -> Any:
    from PIL.Image import Image

    if isinstance(value, bytes):
        return decoded(value)
    if isinstance(value, str):
        return decoded(unbase64(value))
    if isinstance(value, Image):
        return value
    raise _error(f"{type(value).__name__} is no image")


def _error(text: str) -> PydanticCustomError:
    return PydanticCustomError("image", "{text}", {"text": text})


@cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this build of Pillow reads."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)
