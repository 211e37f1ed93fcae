"""Batches are filled up to powers of two, and nobody sees it."""

from typing import Any

import numpy as np

from samovar.runtimes.padding import padded
from samovar.types import Datatype, Signature, TensorSpec

SPECS = (TensorSpec("x", Datatype.FP32, (2,)),)


def test_few_lengths_are_run_and_each_answer_has_its_own() -> None:
    lengths = []

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        lengths.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    filled = padded(run, Signature(SPECS, SPECS, batch_axis=True))
    for rows in (1, 2, 3, 5, 8, 0):
        x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
        np.testing.assert_array_equal(filled({"x": x})["y"], x * 2)
    assert lengths == [1, 2, 4, 8, 8, 0]


def test_what_has_no_batch_axis_is_left_alone() -> None:
    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs

    assert padded(run, Signature(SPECS, SPECS, batch_axis=False)) is run
