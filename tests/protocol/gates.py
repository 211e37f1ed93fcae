"""Holding the calls of apps/calls_held.py, and letting them go."""

import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from http_door import Answer
from serving import Served
from watching import eventually, metric

HELD = np.array([[-1.0]], np.float32)


def row(*values: float) -> np.ndarray:
    """One row."""
    return np.array([values], np.float32)


@dataclass
class Gated:
    """An engine with models of apps/calls_held.py; a held call is a connection to `gate`."""

    served: Served
    gate: socket.socket
    threads: ThreadPoolExecutor
    calls: list[socket.socket] = field(default_factory=list)

    def send(self, model: str, x: np.ndarray, **headers: str) -> Future[Answer]:
        """A request that the test does not wait for."""
        return self.threads.submit(self.served.http.infer, model, {"x": x}, **headers)

    def hold(self, model: str, count: int = 1) -> list[Future[Answer]]:
        """Send requests and wait until a worker runs each of them, and goes on running it."""
        held = [self.send(model, HELD) for _ in range(count)]
        self.calls += [self.gate.accept()[0] for _ in range(count)]
        return held

    def queue(self, model: str, rows: list[np.ndarray], **headers: str) -> list[Future[Answer]]:
        """Send requests and wait until each stands in the queue, in this order."""
        before = self.waiting(model)
        sent: list[Future[Answer]] = []
        for x in rows:
            sent.append(self.send(model, x, **headers))
            eventually(lambda: self.waiting(model) == before + len(sent), f"request {len(sent)} waits")
        return sent

    def waiting(self, model: str) -> float:
        """Items in the queue of a model."""
        return metric(self.served, "samovar_queue_items", model=model)

    def release(self, count: int | None = None) -> None:
        """Let held calls end: all, or the first ones."""
        going, self.calls = self.calls[:count], [] if count is None else self.calls[count:]
        for call in going:
            call.close()


Begin = Callable[..., Gated]
"""The fixture `gated`: start an engine for models of apps/calls_held.py."""
