"""The fields of a protobuf message, without its schema: enough to see whether a file is whole, and what it leaves out.

The wire format: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator

__all__ = ["BrokenMessageError", "fields", "first", "varints"]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_SHIFT = 63


class BrokenMessageError(Exception):
    """The bytes are no message; `missing` is how many are wanted behind their end, where they only end too early."""

    def __init__(self, missing: int = 0) -> None:
        super().__init__(missing)
        self.missing = missing


def fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and content of each field: bytes of those with a length, else a number. Raises BrokenMessageError."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise BrokenMessageError
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _LENGTH:
            size, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise BrokenMessageError
        if size > len(message) - position:
            raise BrokenMessageError(size - (len(message) - position))
        yield number, message[position : position + size]
        position += size


def first(message: memoryview, number: int) -> memoryview | None:
    """The bytes of the first field of this number, or None if there is none. Raises BrokenMessageError."""
    for found, content in fields(message):
        if found == number and not isinstance(content, int):
            return content
    return None


def varints(content: memoryview | int) -> Iterator[int]:
    """The numbers of a repeated field, one by one or packed, without a sign. Raises BrokenMessageError."""
    if isinstance(content, int):
        yield content
        return
    position = 0
    while position < len(content):
        value, position = _varint(content, position)
        yield value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits per byte, and where it ends."""
    value = shift = 0
    while True:
        if position >= len(message):
            raise BrokenMessageError(1)
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if not byte & 0x80:
            return value, position
        shift += 7
        if shift > _MAX_SHIFT:
            raise BrokenMessageError
