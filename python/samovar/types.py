"""Datatypes, tensor signatures, and the annotation of text tensors."""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any

__all__ = ["Bytes", "BytesShape", "Datatype", "Signature", "TensorSpec", "check_name"]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
RESERVED_NAMES = frozenset(
    {"v1", "v2", "metrics", "docs", "openapi.json", "health", "ping", "models", "predictions", "stats"}
)


class Datatype(IntEnum):
    """Element types of the Open Inference Protocol; the numbers are those of the worker channel."""

    BOOL = 1
    UINT8 = 2
    UINT16 = 3
    UINT32 = 4
    UINT64 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9
    FP16 = 10
    FP32 = 11
    FP64 = 12
    BYTES = 13
    BF16 = 14

    @property
    def numpy_name(self) -> str:
        """The numpy dtype; `object` holds the byte strings of BYTES, `bfloat16` comes from ml_dtypes."""
        return _NUMPY_NAMES[self]

    @classmethod
    def of_numpy(cls, name: str) -> "Datatype | None":
        """The datatype of a numpy dtype name, `float32` for instance."""
        return _BY_NUMPY_NAME.get(name)


_NUMPY_NAMES = {
    datatype: datatype.name.lower().replace("fp", "float").replace("bf", "bfloat").replace("bytes", "object")
    for datatype in Datatype
}
_BY_NUMPY_NAME = {name: datatype for datatype, name in _NUMPY_NAMES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `dims` are the lengths without the batch axis, -1 is "any"; None is what is not known."""

    name: str
    datatype: Datatype | None
    dims: tuple[int, ...] | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object with `name`, `datatype`, `dims`."""
        datatype = None if self.datatype is None else self.datatype.name
        return {"name": self.name, "datatype": datatype, "dims": None if self.dims is None else list(self.dims)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "TensorSpec":
        """The reverse of `to_json`."""
        datatype, dims = value["datatype"], value["dims"]
        return cls(
            value["name"],
            None if datatype is None else Datatype[datatype],
            None if dims is None else tuple(dims),
        )


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs in the order of the call; `batch_axis` says that the first axis of each is the batch axis."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_axis: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON object with `inputs`, `outputs`, `batch_axis`."""
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "batch_axis": self.batch_axis,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Signature":
        """The reverse of `to_json`; further keys are left alone."""
        inputs, outputs = (tuple(TensorSpec.from_json(spec) for spec in value[key]) for key in ("inputs", "outputs"))
        return cls(inputs, outputs, value["batch_axis"])


@dataclass(frozen=True)
class BytesShape:
    """What `Bytes[np.ndarray, "batch 1"]` leaves in an annotation; the names are those of jaxtyping's annotations."""

    array_type: Any
    dim_str: str
    dtypes: tuple[str, ...] = ("object",)


if TYPE_CHECKING:
    from typing import Annotated as Bytes  # a type checker sees the array type alone, as with jaxtyping
else:

    class Bytes:
        """Annotation of a text tensor: `Bytes[np.ndarray, "batch 1"]` is an object array of `bytes` (BYTES)."""

        def __class_getitem__(cls, item: Any) -> Any:
            """The array type, annotated with the shape."""
            if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], str)):
                raise TypeError(f'samovar.Bytes[{item!r}]: write samovar.Bytes[np.ndarray, "batch 1"]')
            return Annotated[item[0], BytesShape(*item)]


def check_name(kind: str, name: str) -> str | None:
    """Why `name` cannot name a `kind` (model or version), or None if it can."""
    if not NAME.fullmatch(name):
        return f"{kind} name {name[:80]!r} has other characters than letters, digits, '.', '_', '-', or is too long"
    if kind == "model" and name in RESERVED_NAMES:
        return f"model name {name!r} is reserved for a path of the engine"
    return None
