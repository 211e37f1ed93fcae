# ruff: noqa: N801, N802, N815 - the names are the vendor's
"""FAKE of the runtime of cuda-python, for machines without a GPU: its memory is that of the process.

Each function gives an error and then its values: https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html
"""

import ctypes
from enum import IntEnum
from typing import Any

_memory: dict[int, Any] = {}
_STREAM = 1


class cudaError_t(IntEnum):
    """What went wrong."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorInvalidDevice = 101


class cudaMemcpyKind(IntEnum):
    """From where to where."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


def cudaSetDevice(device: int) -> tuple[Any, ...]:
    """There is one GPU, 0."""
    return (cudaError_t.cudaSuccess if device == 0 else cudaError_t.cudaErrorInvalidDevice,)


def cudaStreamCreate() -> tuple[Any, ...]:
    """A stream."""
    return cudaError_t.cudaSuccess, _STREAM


def cudaStreamDestroy(stream: int) -> tuple[Any, ...]:
    """The end of a stream."""
    return (cudaError_t.cudaSuccess if stream == _STREAM else cudaError_t.cudaErrorInvalidValue,)


def cudaStreamSynchronize(stream: int) -> tuple[Any, ...]:
    """Wait for what was begun on it."""
    return (cudaError_t.cudaSuccess if stream == _STREAM else cudaError_t.cudaErrorInvalidValue,)


def cudaMalloc(size: int) -> tuple[Any, ...]:
    """Memory of so many bytes."""
    buffer = ctypes.create_string_buffer(size)
    _memory[ctypes.addressof(buffer)] = buffer
    return cudaError_t.cudaSuccess, ctypes.addressof(buffer)


def cudaFree(address: int) -> tuple[Any, ...]:
    """Give memory back."""
    known = _memory.pop(address, None)
    return (cudaError_t.cudaErrorInvalidValue if known is None else cudaError_t.cudaSuccess,)


def cudaMemcpyAsync(target: int, source: int, size: int, kind: cudaMemcpyKind, stream: int) -> tuple[Any, ...]:
    """Copy, within the memory that the GPU's side has."""
    device = target if kind is cudaMemcpyKind.cudaMemcpyHostToDevice else source
    if device not in _memory or size > len(_memory[device]) or stream != _STREAM:
        return (cudaError_t.cudaErrorInvalidValue,)
    ctypes.memmove(target, source, size)
    return (cudaError_t.cudaSuccess,)
