"""One engine under test: started apart from the driver's processor, looked at from outside, ended, and what it left."""

import json
import os
import re
import signal
import struct
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
from benchmarks.measuring import OURS
from benchmarks.peers.base import Peer, Running, tree
from benchmarks.work import CHECKED

SHM = Path("/dev/shm")  # noqa: S108 - looked at, not written
PROCESSORS = sorted(os.sched_getaffinity(0))
"""The driver has the first to itself, where there are several."""
STOP_TIMEOUT_S, SETTLE_S = 40.0, 12.0
"""Threads that the engine's runtime kept for blocking work end after ten idle seconds."""
RUN = struct.Struct("<qq")
HELD = re.compile(r"^samovar_(?:in_flight|queue_items|queue_bytes)\{.*\} (\S+)$", re.MULTILINE)


class Stage:
    """A peer that serves CHECKED, with this tuning, while the block lasts."""

    def __init__(self, peer: Peer, tuning: Mapping[str, Any] | None = None) -> None:
        self.peer = peer
        self._tuning = tuning
        self._stack = ExitStack()
        self.running: Running
        self.exit_code: int | None = None

    def __enter__(self) -> Self:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        self._runs = folder / "runs"
        self._stack.callback(self._kill_left)
        self._shm = _names(SHM)
        os.environ["RUNS_FILE"] = str(self._runs)
        os.sched_setaffinity(0, PROCESSORS[1:] or PROCESSORS)  # what is started inherits it
        self._stack.callback(os.sched_setaffinity, 0, PROCESSORS)
        self.running = self._stack.enter_context(self.peer.serve(CHECKED, "json", folder / "engine", self._tuning))
        os.sched_setaffinity(0, PROCESSORS[:1])
        self._before = self._held()
        return self

    def __exit__(self, *caught: object) -> None:
        self._stack.__exit__(*caught)  # type: ignore[arg-type]  # passed on

    @property
    def process(self) -> psutil.Popen:
        """The first process of the engine."""
        return self.running.process

    @property
    def is_ours(self) -> bool:
        """Samovar tells more of itself."""
        return self.peer.name == OURS

    def get(self, path: str) -> httpx.Response:
        """From its HTTP door."""
        return httpx.get(self.running.url("json") + path, timeout=60)

    def post(self, path: str) -> httpx.Response:
        """To its HTTP door, an empty object."""
        return httpx.post(self.running.url("json") + path, json={}, timeout=60)

    def runs(self) -> dict[int, list[float]]:
        """When each id began to run, as often as it did, by time.monotonic."""
        found: dict[int, list[float]] = {}
        if self._runs.exists():
            for number, began_ns in RUN.iter_unpack(self._runs.read_bytes()):
                found.setdefault(number, []).append(began_ns / 1e9)
        return found

    def deaths(self, text: str = "ended by signal") -> list[float]:
        """When the engine's log tells of a dead worker, by time.time. Samovar alone."""
        lines = [json.loads(line) for line in self.running.log.read_text().splitlines() if line.startswith("{")]
        told = [line["timestamp"] for line in lines if text in line["message"]]
        return [datetime.fromisoformat(moment).timestamp() for moment in told]

    def leaked(self) -> int:
        """Stop the engine; the processes, zombies, names in /dev/shm, descriptors, threads and slots that it did not give back."""
        kept = 0
        if self.is_ours and self.process.is_running():
            kept = _settled(lambda: sum(max(0, now - then) for now, then in zip(self._held(), self._before, strict=True)))
        zombies = _settled(lambda: sum(_is_zombie(one) for one in tree(self.process)[1:]))
        self.stop()
        processes = _settled(lambda: len(self.left()))
        return kept + zombies + processes + len(_names(SHM) - self._shm)

    def stop(self, *, is_asked: bool = False) -> None:
        """SIGTERM, unless it had it; wait for the exit code, which stays None where it does not end in time."""
        if not is_asked:
            with suppress(psutil.NoSuchProcess):
                self.process.send_signal(signal.SIGTERM)
        with suppress(psutil.TimeoutExpired):
            self.exit_code = self.process.wait(STOP_TIMEOUT_S)

    def left(self) -> list[psutil.Process]:
        """Every process that has this stage's environment, wherever it hangs."""
        marker = f"RUNS_FILE={self._runs}".encode()
        found = []
        for one in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if marker in Path(f"/proc/{one.pid}/environ").read_bytes().split(b"\0"):
                    found.append(one)
        return found

    def _held(self) -> Sequence[int]:
        """Descriptors, threads, and what /metrics says is on its way, of the engine's own process."""
        if not self.is_ours:
            return ()
        held = sum(float(value) for value in HELD.findall(self.get("/metrics").text))
        return self.process.num_fds(), self.process.num_threads(), round(held)

    def _kill_left(self) -> None:
        for one in self.left():
            with suppress(psutil.NoSuchProcess):
                one.kill()


def _settled(look: Callable[[], int]) -> int:
    """What is left when it is nothing or the time is over."""
    deadline = time.monotonic() + SETTLE_S
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _names(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir()) if folder.exists() else frozenset()


def _is_zombie(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return False

