"""What an ONNX file says that onnxruntime does not tell: operators, classes of maps, and shapes that are left out.

The messages: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from samovar.errors import TargetError
from samovar.runtimes.contents import foreign
from samovar.runtimes.protobuf import BrokenMessageError, fields, first, varints

__all__ = ["FIRST_BYTE", "Graph", "read"]

# Field numbers: ModelProto, GraphProto, NodeProto, AttributeProto, ValueInfoProto, TypeProto, TypeProto.Tensor.
_IR_VERSION, _GRAPH = 1, 7
_NODE, _INPUT, _OUTPUT = 1, 11, 12
_NODE_OUTPUT, _OPERATOR, _ATTRIBUTE = 2, 4, 5
_INT, _INTS, _STRINGS = 3, 8, 9
_NAME, _TYPE, _TENSOR_TYPE, _SHAPE = 1, 2, 1, 2
FIRST_BYTE = bytes([_IR_VERSION << 3])
_REGRESSOR = b"Regressor"  # TreeEnsembleRegressor, LinearRegressor and SVMRegressor
_TARGETS = (b"n_targets", b"targets")
_ZIP_MAP = b"ZipMap"  # its only attributes are the classes: classlabels_int64s or classlabels_strings


@dataclass(frozen=True)
class Graph:
    """The graph of a file, without its weights."""

    operators: set[str] = field(default_factory=set)
    """Those of the graph itself, not of the graphs in its loops and branches."""
    shapeless: set[str] = field(default_factory=set)
    """Inputs and outputs of unknown rank, of which onnxruntime says [] as it does of scalars."""
    classes: dict[str, list[int | str]] = field(default_factory=dict)
    """By the output that maps each class to its probability: the classes in the order of such a map."""
    targets: dict[str, int] = field(default_factory=dict)
    """By the output of a regressor: the length of its second axis, of which CatBoost does not write."""


def read(path: Path) -> Graph:
    """Read a file. Raises TargetError for what is no whole ONNX file."""
    fault = foreign(path)
    if fault is not None:
        raise TargetError(f"{fault.message}, no ONNX model", fault.next_step)
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return _graph(first(content, _GRAPH))
    except BrokenMessageError as broken:
        if broken.missing and content[:1] == FIRST_BYTE:
            raise TargetError(
                f"{path.name} is cut off: {len(content)} bytes, at least {broken.missing} more are announced",
                "fetch or export the file again",
            ) from None
        raise TargetError(f"{path.name} is no ONNX model", "give the file that an exporter wrote") from None


def _graph(message: memoryview | None) -> Graph:
    if message is None:
        raise BrokenMessageError
    found = Graph()
    for number, value in fields(message):
        if isinstance(value, int):
            continue
        if number == _NODE:
            operator = bytes(first(value, _OPERATOR) or b"")
            found.operators.add(_text(operator))
            if operator == _ZIP_MAP:
                found.classes[_text(first(value, _NODE_OUTPUT) or b"")] = sorted(_classes(value))
            elif operator.endswith(_REGRESSOR):
                found.targets[_text(first(value, _NODE_OUTPUT) or b"")] = _targets(value)
        elif number in (_INPUT, _OUTPUT):
            kind = first(value, _TYPE)
            tensor = None if kind is None else first(kind, _TENSOR_TYPE)
            if tensor is None or first(tensor, _SHAPE) is None:
                found.shapeless.add(_text(first(value, _NAME) or b""))
    return found


def _classes(node: memoryview) -> Iterator[int | str]:
    for number, attribute in fields(node):
        if number == _ATTRIBUTE and not isinstance(attribute, int):
            for kind, value in fields(attribute):
                if kind == _INTS:
                    yield from (label - (label >> 63 << 64) for label in varints(value))
                elif kind == _STRINGS and not isinstance(value, int):
                    yield _text(value)


def _targets(node: memoryview) -> int:
    for number, attribute in fields(node):
        if (
            number == _ATTRIBUTE
            and not isinstance(attribute, int)
            and bytes(first(attribute, _NAME) or b"") in _TARGETS
        ):
            return next((value for kind, value in fields(attribute) if kind == _INT and isinstance(value, int)), 1)
    return 1


def _text(value: memoryview | bytes) -> str:
    return bytes(value).decode("utf-8", "replace")
