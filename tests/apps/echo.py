"""One echo per datatype: `echo.py:EchoFp32` serves the model `echo_fp32`."""

import numpy as np
from jaxtyping import (
    BFloat16,
    Bool,
    Float16,
    Float32,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
)

import samovar


@samovar.model
class EchoBool:
    """BOOL[batch, n], unchanged."""

    def predict(self, x: Bool[np.ndarray, "batch n"]) -> Bool[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoUint8:
    """UINT8[batch, n], unchanged."""

    def predict(self, x: UInt8[np.ndarray, "batch n"]) -> UInt8[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoUint16:
    """UINT16[batch, n], unchanged."""

    def predict(self, x: UInt16[np.ndarray, "batch n"]) -> UInt16[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoUint32:
    """UINT32[batch, n], unchanged."""

    def predict(self, x: UInt32[np.ndarray, "batch n"]) -> UInt32[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoUint64:
    """UINT64[batch, n], unchanged."""

    def predict(self, x: UInt64[np.ndarray, "batch n"]) -> UInt64[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoInt8:
    """INT8[batch, n], unchanged."""

    def predict(self, x: Int8[np.ndarray, "batch n"]) -> Int8[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoInt16:
    """INT16[batch, n], unchanged."""

    def predict(self, x: Int16[np.ndarray, "batch n"]) -> Int16[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoInt32:
    """INT32[batch, n], unchanged."""

    def predict(self, x: Int32[np.ndarray, "batch n"]) -> Int32[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoInt64:
    """INT64[batch, n], unchanged."""

    def predict(self, x: Int64[np.ndarray, "batch n"]) -> Int64[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoFp16:
    """FP16[batch, n], unchanged."""

    def predict(self, x: Float16[np.ndarray, "batch n"]) -> Float16[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoFp32:
    """FP32[batch, n], unchanged."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Float32[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoFp64:
    """FP64[batch, n], unchanged."""

    def predict(self, x: Float64[np.ndarray, "batch n"]) -> Float64[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoBf16:
    """BF16[batch, n], unchanged."""

    def predict(self, x: BFloat16[np.ndarray, "batch n"]) -> BFloat16[np.ndarray, "batch n"]:
        return x


@samovar.model
class EchoBytes:
    """BYTES[batch, n], unchanged."""

    def predict(self, x: samovar.Bytes[np.ndarray, "batch n"]) -> samovar.Bytes[np.ndarray, "batch n"]:
        return x
