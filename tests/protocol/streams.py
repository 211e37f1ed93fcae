"""The services and models of apps/streaming.py, whose generators note what becomes of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from http_door import Answer, Wire
from notes import Notes
from serving import Served

METHODS = ["count", "count_sync", "through", "through_async", "through_sync"]
"""Who yields: the service itself, or a model that it calls; coroutines and plain generators."""


@dataclass(frozen=True)
class Streams(Notes):
    """The streams of one test, and what their generators noted."""

    served: Served

    @classmethod
    def of(cls, served: Served, folder: Path) -> "Streams":
        """Streams with notes of their own."""
        return cls(Notes.within(folder).note, served)

    def body(self, method: str, count: int, **more: Any) -> tuple[str, dict[str, Any]]:
        """Path and inputs of one of METHODS."""
        is_async = {"is_async": True} if method == "through_async" else {}
        path = "/streams/" + ("through" if is_async else method)
        return path, {"count": count, "note": str(self.note), **is_async, **more}

    def ask(self, method: str, count: int, *, accept: str = "*/*", **more: Any) -> Answer:
        """A whole stream."""
        path, body = self.body(method, count, **more)
        return self.served.http.post(path, body, accept=accept)

    def begin(self, wire: Wire, method: str, count: int, *headers: str, **more: Any) -> None:
        """A request whose answer the test reads."""
        path, body = self.body(method, count, **more)
        data = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
        wire.send("\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode(), data)

    def infer(self, model: str, count: int, *, fail: int = -1) -> dict[str, np.ndarray]:
        """Inputs of a model."""
        numbers = {"count": count, "fail": fail, "hold": -1}
        return {
            **{name: np.array([n]) for name, n in numbers.items()},
            "note": np.array([str(self.note).encode()], object),
        }


def lines(answer: Answer) -> list[Any]:
    """The items of JSON lines."""
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer.body
    return [json.loads(line) for line in answer.body.splitlines()]
