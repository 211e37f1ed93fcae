"""What a figure was measured on, and who else was busy there meanwhile."""

import hashlib
import os
import platform
import resource
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from benchmarks.peers.base import tree


def describe() -> dict[str, Any]:
    """Machine, versions and commit."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cpus": cpus(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "samovar": version("samovar"),
        "commit": commit(),
        **{tool: _first_line(command) for tool, command in TOOLS.items()},
    }


TOOLS = {"nginx": ["nginx", "-v"], "wrk": ["wrk", "-v"], "h2load": ["h2load", "--version"]}


def cpus() -> int:
    """Processors that may be used."""
    return len(os.sched_getaffinity(0))


def _first_line(command: list[str]) -> str:
    with suppress(FileNotFoundError):
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        return (run.stdout + run.stderr).splitlines()[0].split(" Copyright")[0]
    return "not installed"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


@cache
def commit() -> str | None:
    """The commit, marked where what is measured differs from it; None outside of a repository.

    The mark is a short hash of the difference, so that figures of two states are never taken for those of one. It is
    that of the start: what is edited during a run is not measured by it.
    """
    head = _git("rev-parse", "--short=10", "HEAD").strip()
    difference = _git("diff", "HEAD", "--", *MEASURED)
    return (head + (f"+{hashlib.sha256(difference.encode()).hexdigest()[:6]}" if difference else "")) or None


MEASURED = ("Cargo.toml", "Cargo.lock", "crates", "python", "examples/plates", "benchmarks", ":!benchmarks/results")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout


@dataclass(frozen=True)
class Used:
    """Processor time between two moments, in seconds, and how many seconds lay between them."""

    server: float
    generator: float
    foreign: float
    wall: float


class Clock:
    """Who used the processors since it was made."""

    def __init__(self, server: psutil.Process) -> None:
        self._server = server
        self._before = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        total = psutil.cpu_times()
        busy = sum(total) - total.idle - total.iowait - total.guest - total.guest_nice
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        generator = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        return cpu_seconds(self._server), generator, busy, time.monotonic()

    def used(self) -> Used:
        """Until now. Foreign is what neither the server nor this process and its ended children used."""
        server, generator, busy, wall = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return Used(server, generator, max(0.0, busy - server - generator), wall)


def cpu_seconds(process: psutil.Process) -> float:
    """Of the tree, its ended children included."""
    total = 0.0
    for one in tree(process):
        with suppress(psutil.NoSuchProcess):
            total += sum(one.cpu_times()[:4])
    return total
