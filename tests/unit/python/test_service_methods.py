"""Methods of services over tensor protocols: arrays in, arrays out, numbers and texts in arrays of shape [1]."""

import asyncio
import dataclasses
import threading
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
from jaxtyping import Float32
from pydantic import Field

import samovar
from samovar.errors import InvalidInputError, OutputError, TargetError
from samovar.service.methods import tensor_method


class Found(NamedTuple):
    scores: Float32[np.ndarray, "n"]
    best: str


@dataclasses.dataclass
class Counted:
    total: int


@samovar.service
class Plates:
    @samovar.api
    async def find(self, x: Float32[np.ndarray, "n"], limit: Annotated[int, Field(ge=1)], *, name: str) -> Found:
        assert (type(limit), type(name)) == (int, str)
        return Found(x[:limit], name * 2)

    @samovar.api
    def count(self, x: Float32[np.ndarray, "n"], y: Float32[np.ndarray, "n"], truth: bool, number: float) -> Counted:
        assert (truth, number) == (True, 0.5)
        assert threading.current_thread() is not threading.main_thread()
        return Counted(len(x) + len(y))

    @samovar.api
    def wrong(self, x: int) -> Float32[np.ndarray, "n"]:
        return np.zeros(x)

    @samovar.api
    def context(self, x: int, context: samovar.Context) -> str:
        return context.id or "none"

    @samovar.api
    def image(self, image: samovar.Image) -> int:
        raise NotImplementedError


def call(name: str, *arrays: Any) -> tuple[Any, ...]:
    method = tensor_method(Plates, Plates(), name)

    async def run(inputs: Sequence[Any]) -> tuple[Any, ...]:
        return await method(inputs)

    return asyncio.run(run(arrays))


def text(value: bytes) -> Any:
    return np.array([value], object)


def test_arrays_and_scalars() -> None:
    x = np.arange(3, dtype=np.float32)
    scores, best = call("find", x, np.array([2]), text("ü".encode()))
    assert scores.tolist() == [0.0, 1.0]
    assert (best.dtype, best.tolist()) == (np.dtype(object), ["üü"])
    (total,) = call("count", x, x, np.array([True]), np.array([0.5]))
    assert (total.dtype, total.tolist()) == (np.dtype(np.int64), [6])


def test_annotations_hold_for_tensors_too() -> None:
    x = np.zeros(3, np.float32)
    with pytest.raises(InvalidInputError, match='input: field "limit": got 0; input should be greater than or equal'):
        call("find", x, np.array([0]), text(b"a"))
    with pytest.raises(InvalidInputError, match='axis "n" has 2 elements here, 3 before'):
        call("count", x, x[:2], np.array([True]), np.array([0.5]))
    with pytest.raises(InvalidInputError, match="a text is no UTF-8"):
        call("find", x, np.array([1]), text(b"\xff"))
    with pytest.raises(OutputError, match="dtype float64, wanted float32"):
        call("wrong", np.array([1]))


def test_the_context_is_that_of_the_call() -> None:
    assert call("context", np.array([1]))[0].tolist() == ["none"]


def test_other_methods_are_none_of_tensors() -> None:
    for name in ("image", "nowhere"):
        with pytest.raises(TargetError, match=f'class Plates has no method "{name}" of tensors'):
            tensor_method(Plates, Plates(), name)
