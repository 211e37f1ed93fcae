"""Outputs that do not fit the signature; the input picks the fault."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

import samovar

FAULTS = ("none", "rows", "dims", "rank", "dtype", "none_returned", "object")


@samovar.model(max_batch_size=1)
class Wrong:
    """`fault` is an index into FAULTS; 0 answers correctly with FP32[batch, 2] zeros."""

    def predict(self, fault: Int32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 2"]:
        rows = len(fault)
        outputs: dict[str, Any] = {
            "none": np.zeros((rows, 2), np.float32),
            "rows": np.zeros((rows + 1, 2), np.float32),
            "dims": np.zeros((rows, 3), np.float32),
            "rank": np.zeros((rows, 2, 1), np.float32),
            "dtype": np.zeros((rows, 2), np.float64),
            "none_returned": None,
            "object": np.full((rows, 2), object()),
        }
        return outputs[FAULTS[int(fault[0, 0])]]


class Pair(NamedTuple):
    """What `Miscounted` declares."""

    first: Float32[np.ndarray, "batch 1"]
    second: Float32[np.ndarray, "batch 1"]


@samovar.model
class Miscounted:
    """Declares two outputs and returns one."""

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Pair:
        return (x,)  # type: ignore[return-value]  # the fault under test
