"""Models that measure what they do with prometheus_client; each worker that imports this file has all these metrics."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric, Summary
from prometheus_client.registry import Collector

import samovar

PAGES = Counter("pages", 'Pages that were "read"\nor written')
LATENCY = Histogram("page_seconds", "Time of a page", ["kind"], buckets=[0.5])
MODELS = Counter("models", "Who asked", ["model", "path"])


def measure(x: np.ndarray, kind: str) -> np.ndarray:
    """Count rows; a negative value waits until the test has opened and closed the pipe HOLD."""
    PAGES.inc(len(x))
    for value in x[:, 0]:
        LATENCY.labels(kind).observe(abs(value))
    MODELS.labels(f'a "{kind}"', "C:\\new").inc()
    if (x < 0).any():
        Path(os.environ["HOLD"]).read_bytes()
    return x


@samovar.model(instances=2, max_batch_size=4)
class Reader:
    """Two instances."""

    def load(self) -> None:
        Gauge("depth", "Pages deep").set(3)
        Gauge("samovar_mine", "No name for a user's metric").set(1)

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return measure(x, "read")


@samovar.model(max_batch_size=4)
class Writer:
    """A coroutine, and a metric whose name is another one in Reader."""

    def load(self) -> None:
        Summary("depth", "Pages deep").observe(3)

    async def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return measure(x, "write")


@samovar.model
class Broken(Collector):
    """Its metrics cannot be collected."""

    def load(self) -> None:
        REGISTRY.register(self)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        raise OSError("no sensor")

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return measure(x, "broken")
