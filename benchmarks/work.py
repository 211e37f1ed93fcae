"""The kinds of work that are measured: what is sent, and the answer that is right. Every peer does the same."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cv2
import numpy as np
from examples.plates import scenes

Inputs = Any
"""An array, a photo's bytes, or what becomes JSON: whatever the kind of work takes."""


@dataclass(frozen=True)
class Request:
    """One HTTP request, sent over and over; for gRPC `path` is the method and `body` one framed message."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


@dataclass(frozen=True)
class Answer:
    """What came back; of gRPC one framed message."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Work:
    """One kind of work.

    `inputs` makes what is sent, `right` says whether that is the answer to it. An array of floats is batched along its
    first axis.
    """

    name: str
    inputs: Callable[[], Inputs]
    right: Callable[[Inputs, Any], bool]


def blob(size: int) -> Work:
    """UINT8[n]; the answer is INT64[1], how many bytes came."""
    return Work("length", lambda: _bytes(size), lambda sent, got: int(np.ravel(got)[0]) == sent.size)


@cache
def _bytes(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


@cache
def _image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)


@cache
def street() -> tuple[bytes, frozenset[str]]:
    """A photo of the demo's street as JPEG, and the texts of its plates."""
    scene = scenes.street(np.random.default_rng(scenes.SEED), scenes.CARS)
    _, file = cv2.imencode(".jpg", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
    return file.tobytes(), frozenset(plate.text for plate in scene.plates)


ECHO = Work(
    "echo",
    lambda: np.arange(16, dtype=np.float32)[None] / 8,
    lambda sent, got: bool(np.array_equal(np.ravel(got), sent.ravel())),
)
"""FP32[batch, 16], answered unchanged."""

IMAGE = Work("image", _image, lambda sent, got: bool(np.allclose(np.ravel(got)[0], sent.mean(), atol=1e-4)))
"""FP32[batch, 3, 224, 224]; the answer is FP32[batch, 1], the mean of each picture."""

CHECKED = Work(
    "checked",
    lambda: np.array([[1, 0, 0, *range(5)]], np.float64),
    lambda sent, got: np.ravel(got)[:2].tolist() == [sent[0, 0], sent[0, 3:].sum()],
)
"""FP64[batch, 8], answered by FP64[batch, 4]: see peers/checked_plain.py."""

STEADY = Work("steady", ECHO.inputs, ECHO.right)
"""As ECHO, but a batch of n takes 5 ms + n * 10 us of sleep: a model whose cost hardly grows with the batch."""

PLATES = Work("plates", lambda: street()[0], lambda _, got: set(got) == street()[1])
"""A JPEG of 1920 x 1080 with six number plates; the answer is their texts. The pipeline of examples/plates."""

SHOP = Work(
    "shop",
    lambda: {"items": [{"name": "tea", "price": 1.5}, {"name": "cup", "price": 2.25}], "note": "a gift"},
    lambda _, got: got == {"price": 3.75, "count": 2},
)
"""A typed endpoint: items checked, prices added."""


def as_json(value: Any) -> bytes:
    """Compact, as a client in a hurry sends it."""
    return json.dumps(value, separators=(",", ":")).encode()
