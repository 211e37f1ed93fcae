"""FAKE of TensorRT, which wants a GPU: an "engine" doubles each input into the output of the same place.

It has the calls that the runtime makes:
https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/Engine.html
"""

import ctypes
import json
from enum import Enum
from math import prod
from typing import Any

import numpy as np

__version__ = "0.fake"
MAGIC = b"\x00FAKE"


class DataType(Enum):
    """Element types."""

    FLOAT = 0
    HALF = 1
    INT32 = 3
    BF16 = 7


class TensorIOMode(Enum):
    """Which way a tensor goes."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


def nptype(kind: DataType) -> Any:
    """The element type of numpy; there is none of bfloat16."""
    known = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT32: np.int32}
    if kind not in known:
        raise TypeError(f"Could not resolve TensorRT datatype to an equivalent numpy datatype: {kind}")
    return known[kind]


class Logger:
    """Takes messages of a severity and above."""

    ERROR = 1

    def __init__(self, severity: int) -> None:
        self.severity = severity


class Runtime:
    """Reads engines."""

    def __init__(self, logger: Logger) -> None:
        assert logger.severity == Logger.ERROR

    def deserialize_cuda_engine(self, content: bytes) -> "Engine | None":
        """The engine, or None where it is none of this version."""
        if not content.startswith(MAGIC):
            return None
        try:
            return Engine(json.loads(content[len(MAGIC) :]))
        except ValueError:
            return None


class Engine:
    """Its facts: name, mode, kind and shape of each tensor, and the profile of inputs."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._tensors = {tensor["name"]: tensor for tensor in facts["tensors"]}
        self._profile = facts["profile"]

    @property
    def num_io_tensors(self) -> int:
        """Inputs and outputs."""
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        """The name of the tensor at a place."""
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        """Input or output."""
        return TensorIOMode[self._tensors[name]["mode"]]

    def get_tensor_dtype(self, name: str) -> DataType:
        """The element type."""
        return DataType[self._tensors[name]["kind"]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """The shape, -1 for any length."""
        return tuple(self._tensors[name]["shape"])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        """The least, best and greatest shape."""
        assert profile == 0
        return [tuple(shape) for shape in self._profile[name]]

    def create_execution_context(self) -> "Context":
        """What runs the engine."""
        return Context(self)


class Context:
    """Shapes and addresses of one run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def _names(self, mode: TensorIOMode) -> list[str]:
        names = map(self._engine.get_tensor_name, range(self._engine.num_io_tensors))
        return [name for name in names if self._engine.get_tensor_mode(name) is mode]

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """False for a shape outside of the profile."""
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        if not all(low <= length <= high for low, length, high in zip(least, shape, most, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """The shape of an output for the inputs of now."""
        place = self._names(TensorIOMode.OUTPUT).index(name)
        given = self._shapes[self._names(TensorIOMode.INPUT)[place]]
        return (given[0], *self._engine.get_tensor_shape(name)[1:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Where a tensor is in the memory of the GPU."""
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        """Run on a stream."""
        assert stream
        outputs = self._names(TensorIOMode.OUTPUT)
        for source, target in zip(self._names(TensorIOMode.INPUT), outputs, strict=True):
            dtype = np.dtype(nptype(self._engine.get_tensor_dtype(source)))
            size = prod(self._shapes[source]) * dtype.itemsize
            values = np.frombuffer(ctypes.string_at(self._addresses[source], size), dtype) * 2
            ctypes.memmove(self._addresses[target], values.astype(dtype).tobytes(), size)
        return True
