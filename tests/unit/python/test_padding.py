"""Batches are filled up to powers of two, and nobody sees it."""

from typing import Any

import numpy as np
import pytest

from samovar.errors import InvalidInputError, OutputError
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
    assert lengths == [1, 2, 4, 8, 8, 1]


def test_a_length_that_is_refused_is_run_as_it_is() -> None:
    lengths = []

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        lengths.append(len(inputs["x"]))
        if len(inputs["x"]) > 3:
            raise InvalidInputError("too many")
        return inputs

    filled = padded(run, Signature(SPECS, SPECS, batch_axis=True))
    x = np.zeros((3, 2), np.float32)
    assert [len(filled({"x": x})["x"]) for _ in range(2)] == [3, 3]
    assert lengths == [4, 3, 3]


def test_outputs_with_other_rows_are_not_cut() -> None:
    filled = padded(lambda inputs: {"y": inputs["x"].ravel()}, Signature(SPECS, SPECS, batch_axis=True))
    with pytest.raises(OutputError, match=r'output "y" has the shape \[8\] for 4 rows .*; .* batch_axis = false'):
        filled({"x": np.zeros((3, 2), np.float32)})


def test_what_has_no_batch_axis_is_left_alone() -> None:
    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs

    assert padded(run, Signature(SPECS, SPECS, batch_axis=False)) is run
