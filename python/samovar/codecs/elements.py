"""What stands for the elements of a tensor: numpy dtypes, and the packed texts of BYTES."""

from collections.abc import Iterable
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Any

from samovar.types import Datatype

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["array_over", "dtype_of", "pack_texts", "unpack_texts"]

_LENGTH = Struct("<I")


@cache
def dtype_of(datatype: Datatype) -> Any:
    """The numpy dtype; importing ml_dtypes costs only whom BF16 concerns."""
    import numpy as np

    if datatype is Datatype.BF16:
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(datatype.numpy_name)


def array_over(buffer: "Buffer", number: int, shape: tuple[int, ...]) -> Any:
    """The array of a datatype by its number: a view of the bytes, for BYTES an object array of `bytes`."""
    import numpy as np

    if number == Datatype.BYTES:
        return unpack_texts(buffer, shape)
    data: Any = buffer  # numpy takes every buffer; its annotations list some
    return np.ndarray(shape, dtype_of(Datatype(number)), data)


def pack_texts(texts: Iterable[bytes]) -> bytes:
    """Each behind its length: four bytes, little-endian."""
    parts: list[bytes] = []
    for text in texts:
        parts += (_LENGTH.pack(len(text)), text)
    return b"".join(parts)


def unpack_texts(buffer: "Buffer", shape: tuple[int, ...]) -> Any:
    """An object array of `bytes`."""
    import numpy as np

    data = bytes(buffer)
    elements, position = [], 0
    while position < len(data):
        start = position + 4
        position = start + _LENGTH.unpack_from(data, position)[0]
        elements.append(data[start:position])
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)
