"""From nested lists to arrays, without numpy's leniency: nothing is rounded, cut or turned into another kind."""

from collections.abc import Iterator
from typing import Any

from samovar.codecs.elements import dtype_of
from samovar.config.declared import MAX_RANK
from samovar.types import Datatype

__all__ = ["array_of"]

_KINDS = {Datatype.BOOL: "true or false", Datatype.BYTES: "a string"}
_INTEGERS = frozenset(datatype for datatype in Datatype if "INT" in datatype.name)


def array_of(value: Any, datatype: Datatype | None) -> Any:
    """The array of a JSON value; None is a datatype that is not known: it is taken from the elements.

    Raises ValueError, with the reason, for lists of unlike lengths and elements that do not fit.
    """
    import numpy as np

    shape = _shape(value)
    elements = list(_flat(value, len(shape)))
    kind = datatype or _guess(elements)
    for element in elements:
        _check(element, kind)
    if kind is Datatype.BYTES:
        array = np.empty(len(elements), object)
        array[:] = [e if isinstance(e, bytes) else e.encode("utf-8", "surrogatepass") for e in elements]
        return array.reshape(shape)
    try:
        with np.errstate(over="raise"):
            return np.array(elements, dtype_of(kind)).reshape(shape)
    except (OverflowError, FloatingPointError):
        raise ValueError(f"an element is out of the range of {kind.name}") from None


def _shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    if len(shape) > MAX_RANK:
        raise ValueError(f"it has {len(shape)} axes, at most {MAX_RANK} can be sent")
    return tuple(shape)


def _flat(value: Any, depth: int) -> Iterator[Any]:
    """The elements; raises ValueError where the lists have not all the same lengths."""
    if isinstance(value, list) != (depth > 0):
        raise ValueError("its lists are not equally deep")
    if depth == 0:
        yield value
        return
    for item in value:
        if depth > 1 and isinstance(item, list) and len(item) != len(value[0]):
            raise ValueError(f"its lists are not equally long: {len(value[0])} and {len(item)}")
        yield from _flat(item, depth - 1)


def _guess(elements: list[Any]) -> Datatype:
    """What elements look like whose datatype nobody has declared."""
    kinds = {type(element) for element in elements}
    if kinds <= {bytes, str}:
        return Datatype.BYTES if kinds else Datatype.FP32
    if kinds == {bool}:
        return Datatype.BOOL
    return Datatype.INT64 if kinds == {int} else Datatype.FP32


def _check(element: Any, datatype: Datatype) -> None:
    if datatype in _KINDS:
        fits = isinstance(element, bool if datatype is Datatype.BOOL else str | bytes)
    elif isinstance(element, bool):
        fits = False
    else:
        fits = isinstance(element, int if datatype in _INTEGERS else int | float)
    if not fits:
        wanted = _KINDS.get(datatype) or ("a whole number" if datatype in _INTEGERS else "a number")
        raise ValueError(f"{_shown(element)} is not {wanted} ({datatype.name})")


def _shown(element: Any) -> str:
    text = (
        repr(element) if not isinstance(element, bool | None) else {True: "true", False: "false", None: "null"}[element]
    )
    return text if len(text) <= 40 else text[:40] + "…"
