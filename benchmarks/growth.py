"""What grows, and how fast, with models, connections, instances and requests in flight."""

import contextlib
import resource
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import httpx
from benchmarks.load import Closed, Load, Streams
from benchmarks.measuring import OURS, Plan, Sample, Target, measure
from benchmarks.networks import write_identity
from benchmarks.peers.base import Running, resident_mib, tree
from benchmarks.peers.oip import request as oip_request
from benchmarks.peers.samovar import MODELS, PEER, Samovar, decorated
from benchmarks.work import ECHO, STEADY, Work

COUNTS = (1, 10, 100, 1000)
CONNECTIONS = (0, 1_000, 10_000)
INSTANCES = (1, 2, 4, 8, 16)
# Streams per connection stay below the limit of 128.
DEPTHS = (Streams(1, 1), Streams(1, 100), Streams(10, 100), Streams(100, 100))
FIRST = Work("model0000", ECHO.inputs, ECHO.right)


def models(plan: Plan) -> list[Sample]:
    """So many ONNX models in shared workers: memory of everything, and the latency of one of them."""
    samples = []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            repository = Path(folder) / "models"
            for number in range(count):
                path = repository / f"model{number:04}" / "model.onnx"
                path.parent.mkdir(parents=True)
                write_identity(path)
            peer = Samovar(repository, "--default-worker", "shared")
            peer.start_timeout_s = 300.0
            with peer.serve(FIRST, "json", Path(folder) / "engine") as running:
                _wait_for_all(running, count)
                last = oip_request(f"model{count - 1:04}", "json", ECHO.inputs())
                target = Target(running, last, "json")
                found = measure(target, Closed(1), plan, OURS)
                figures = {
                    "p50_ms": found.figures["p50_ms"],
                    "per_s": found.figures["per_s"],
                    "rss_mib": resident_mib(running.process),
                    "processes": len(tree(running.process)),
                    "start_s": running.start_s,
                }
                samples.append(Sample(f"{count:,} models", OURS, figures))
    return samples


def _wait_for_all(running: Running, count: int) -> None:
    while True:
        index = httpx.post(f"{running.url('json')}/v2/repository/index", json={}, timeout=60).json()
        states = [model["state"] for model in index]
        if len(states) == count and set(states) == {"READY"}:
            return
        time.sleep(0.1)


def connections(plan: Plan) -> list[Sample]:
    """So many idle connections: memory of the engine process, and the latency of another client."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))  # the engine inherits it
    samples = []
    request = PEER.request(ECHO, "json", ECHO.inputs())
    with tempfile.TemporaryDirectory() as folder, PEER.serve(ECHO, "json", Path(folder)) as running:
        target = Target(running, request, "json")
        measure(target, Closed(1), plan, OURS)  # what the first requests allocate is not what connections cost
        before = running.process.memory_info().rss
        with contextlib.ExitStack() as stack:
            opened = 0
            for count in CONNECTIONS:
                for _ in range(count - opened):
                    _open_idle(running, stack)
                opened = count
                found = measure(target, Closed(1), plan, OURS)
                grown = running.process.memory_info().rss - before
                figures = {
                    "p50_ms": found.figures["p50_ms"],
                    "engine_rss_mib": round(running.process.memory_info().rss / 2**20, 1),
                    "kib_per_connection": round(grown / 1024 / max(1, count), 2),
                }
                samples.append(Sample(f"{count:,} connections", OURS, figures))
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    return samples


def _open_idle(running: Running, stack: contextlib.ExitStack) -> None:
    """A connection that has had one answer, as those of a client's pool have."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", running.ports.http)))
    connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    connection.recv(4096)


def instances(plan: Plan) -> list[Sample]:
    """So many instances of a model that sleeps: what 128 clients get, and memory of everything."""
    samples = []
    for count in INSTANCES:
        with tempfile.TemporaryDirectory() as folder:
            options = {"workers": count, "max_batch_size": 8}
            with PEER.serve(STEADY, "json", Path(folder), options) as running:
                request = PEER.request(STEADY, "json", STEADY.inputs())
                target = Target(running, request, "json")
                found = measure(target, Closed(128), plan, OURS)
                figures = {name: found.figures[name] for name in ("per_s", "p50_ms", "p99_ms", "rss_mib")}
                samples.append(Sample(f"{count} instances", OURS, figures))
    return samples


def queue(plan: Plan) -> list[Sample]:
    """So many requests in flight at a time, over gRPC, limits raised for this row."""
    request = PEER.request(ECHO, "grpc", ECHO.inputs())
    with tempfile.TemporaryDirectory() as folder:
        echo = decorated(MODELS / "echo.py", Path(folder), {"max_queue_items": 20_000})
        peer = Samovar(echo, "--max-requests", "20000")
        with peer.serve(ECHO, "grpc", Path(folder) / "engine") as running:
            target = Target(running, request, "grpc")
            return [_depth(target, load, plan) for load in DEPTHS]


def _depth(target: Target, load: Load, plan: Plan) -> Sample:
    assert isinstance(load, Streams)
    found = measure(target, load, replace(plan, seconds=max(1, plan.seconds)), OURS)  # 10,000 take their time
    names = ("per_s", "p50_ms", "p99_ms", "errors", "rss_mib")
    return Sample(f"{load.connections * load.streams:,} in flight", OURS, {name: found.figures[name] for name in names})
