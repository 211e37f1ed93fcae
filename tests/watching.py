"""Seeing from outside what an engine does, and waiting until it has done it."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from http_door import Answer, Http
from serving import Served

_Found = TypeVar("_Found")
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def eventually(look: Callable[[], _Found], what: str, timeout_s: float = 20.0) -> _Found:
    """Look until something true is seen, and return that; fail after the timeout."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.01)


def metric(served: Served, name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have these labels."""
    total = 0.0
    for line in served.http.get("/metrics").body.decode().splitlines():
        sample = _SAMPLE.fullmatch(line)
        if sample and sample[1] == name and labels.items() <= dict(_LABEL.findall(sample[2] or "")).items():
            total += float(sample[3])
    return total


def entry(served: Served, model: str) -> dict[str, Any]:
    """A model's line of the repository index."""
    index = served.http.post("/v2/repository/index", {}).json()
    return next(line for line in index if line["name"] == model)


def is_ready(served: Served, model: str | None = None) -> bool:
    """What the engine says of itself or of a model."""
    path = "/v2/health/ready" if model is None else f"/v2/models/{model}/ready"
    return served.http.get(path).status == 200


def load(served: Served, model: str) -> Answer:
    """Ask for a load or reload (`--control explicit`)."""
    return served.http.post(f"/v2/repository/models/{model}/load", {})


def unload(served: Served, model: str) -> Answer:
    """Ask for an unload."""
    return served.http.post(f"/v2/repository/models/{model}/unload", {})


def wait_unloaded(served: Served, model: str) -> None:
    """Wait until the index says that a model is unloaded."""
    eventually(lambda: entry(served, model)["reason"] == "unloaded", f"{model} is unloaded")


def run(http: Http, model: str, key: int, seconds: float = 0.0, **headers: str) -> Answer:
    """A request to one of the models of apps/mortal.py."""
    return http.infer(model, keyed(key, seconds), **headers)


def keyed(key: int, seconds: float = 0.0) -> dict[str, np.ndarray]:
    """The inputs of one of the models of apps/mortal.py."""
    return {"key": np.array([[key]], np.int64), "seconds": np.array([[seconds]], np.float32)}


def value(answer: Answer, output: str) -> int:
    """The one element of an output."""
    return int(answer.arrays()[output][0, 0])


def pid_of(served: Served, model: str) -> int:
    """The worker that runs one of the models of apps/mortal.py."""
    return value(run(served.http, model, 1), "pid")


def keys_in(file: Path) -> list[int]:
    """The keys that apps/mortal.py has run, in that order."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def wait_begun(file: Path, key: int) -> None:
    """Wait until apps/mortal.py has begun to run a key."""
    eventually(lambda: key in keys_in(file), f"key {key} runs")


def resident_kib(pid: int) -> int:
    """Memory of a process in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])  # type: ignore[index]  # every process has one


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - the names alone


def threads(pid: int) -> int:
    """Threads of a process."""
    return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 - the names alone
