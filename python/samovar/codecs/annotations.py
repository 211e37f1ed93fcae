"""From an array annotation to a tensor's datatype and axes.

jaxtyping's annotations are known by their attributes (`dtypes`, `dim_str`, `array_type`): it need not be imported, or
even installed, for a model that uses `samovar.Bytes` alone.
"""

from typing import Any, get_args

from samovar.config.declared import BATCH, MAX_RANK
from samovar.errors import TargetError
from samovar.types import BytesShape, Datatype

__all__ = ["axes", "one_array", "tensor"]

EXAMPLE = 'Float32[np.ndarray, "batch 3"]'
_ALLOWED = (
    "Bool, UInt8, UInt16, UInt32, UInt64, Int8, Int16, Int32, Int64, Float16, BFloat16, Float32, Float64 "
    "(of jaxtyping), or samovar.Bytes"
)


def tensor(place: str, annotation: Any) -> tuple[Datatype, list[int | str]]:
    """Datatype and axes of an annotation: a fixed length each, or a name that may have any length.

    `place` says whose annotation it is, for the TargetError that is raised where it does not describe one array type.
    """
    array = one_array(annotation)
    if array is None:
        if getattr(annotation, "__name__", "") == "ndarray":
            raise TargetError(
                f"{place} is a plain np.ndarray, which says neither dtype nor shape", f"write for instance {EXAMPLE}"
            )
        raise TargetError(f"{place} is {_shown(annotation)}, no typed array", f"write for instance {EXAMPLE}")
    if getattr(array.array_type, "__name__", "") != "ndarray":
        raise TargetError(
            f"{place} is an array of {_shown(array.array_type)}; methods get and return numpy arrays",
            "write np.ndarray there and convert inside the method (torch.from_dlpack(x), for instance)",
        )
    return _datatype(place, annotation, array), axes(place, array.dim_str)


def one_array(annotation: Any) -> Any:
    """The object with `dtypes`, `dim_str` and `array_type` in an annotation, or None if it is no typed array."""
    for part in (annotation, *getattr(annotation, "__metadata__", ())):
        if isinstance(part, BytesShape) or (
            isinstance(getattr(part, "dim_str", None), str) and hasattr(part, "dtypes")
        ):
            return part
    return None


def axes(place: str, text: str) -> list[int | str]:
    """The axes of a shape text such as `batch 3 24 width`. Raises TargetError for what a signature cannot say."""
    found: list[int | str] = []
    for word in text.split():
        axis = word.rpartition("=")[2]  # "rows=4" documents a length
        if axis.isdecimal():
            found.append(int(axis))
        elif axis.isidentifier():
            found.append(axis)
        else:
            raise TargetError(
                f'{place} has the axis "{word}", which a signature cannot say',
                "write a number for a fixed length, or a name for any length",
            )
    if len(found) > MAX_RANK:
        raise TargetError(f"{place} has {len(found)} axes; an array may have {MAX_RANK}")
    if BATCH in found[1:]:
        raise TargetError(f'{place} has "batch" as axis {found.index(BATCH, 1)}', "make it the first axis")
    return found


def _datatype(place: str, annotation: Any, array: Any) -> Datatype:
    names = array.dtypes if isinstance(array.dtypes, list | tuple) else ()
    found = {Datatype.of_numpy(name.removesuffix("_")) for name in names}  # jaxtyping's Bool is bool and bool_
    datatype = found.pop() if len(found) == 1 else None
    if datatype is None:
        kind = getattr(getattr(array, "dtype", None), "__name__", _shown(annotation))
        why = "names several dtypes" if len(names) > 1 else "has a dtype that cannot be sent"
        raise TargetError(f"{place} is {kind}, which {why}", f"choose one of {_ALLOWED}")
    return datatype


def _shown(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation)[:200]
