"""One engine under test: started apart from the driver's processor, looked at from outside, ended, and what it left."""

import json
import os
import re
import signal
import ssl
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
from benchmarks.measuring import OURS
from benchmarks.peers import base
from benchmarks.work import CHECKED

SHM = Path("/dev/shm")
PROCESSORS = sorted(os.sched_getaffinity(0))
"""The driver has the first to itself, where there are several."""
STOP_TIMEOUT_S, SETTLE_S = 40.0, 12.0
"""Threads that the engine's runtime kept for blocking work end after ten idle seconds."""
UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""httpx reads the certificates of all authorities for each client that is given none: 21 ms in which no thread of the
driver measures anything."""
KEPT_SEGMENTS = 8
"""Per worker: an idle channel keeps some segments for the next requests."""
SEGMENT, NUMBER = "/memfd:samovar (deleted)", re.compile(r":\[\d+\]")
MAPPED = re.compile(r" /dev/shm/(\S+)")
RUN = struct.Struct("<qq")
HELD = re.compile(r"^samovar_(?:in_flight|queue_items|queue_bytes)\{.*\} (\S+)$", re.MULTILINE)


class Stage:
    """A peer that serves CHECKED, with this tuning, while the block lasts."""

    def __init__(self, peer: base.Peer, tuning: Mapping[str, Any] | None = None) -> None:
        self.peer = peer
        self._tuning = tuning
        self._stack = ExitStack()
        self.running: base.Running
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
        # One connection, kept: a new one for each look would stand there or not by chance.
        self._page = self._stack.enter_context(httpx.Client(base_url=self.running.url("json"), timeout=60))
        self.remember()
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

    def post(self, path: str) -> httpx.Response:
        """To its HTTP door, an empty object."""
        return httpx.post(self.running.url("json") + path, json={}, timeout=60, verify=UNUSED)

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
        """Stop the engine; what it did not give back, each piece told of on the terminal."""
        left = self._left_while_running()
        self.stop()
        left["processes after the end"] = _settled(lambda: len(self.left()))
        left["names in /dev/shm"] = self.new_in_shm()
        told = ", ".join(f"{count} x {name}" for name, count in left.items() if count)
        if told:
            print(f"    {self.peer.name} left {told}", flush=True)
        return sum(left.values())

    def _left_while_running(self) -> dict[str, int]:
        if not self.process.is_running():
            return {}
        zombies = _settled(lambda: sum(_is_zombie(one) for one in base.tree(self.process)[1:]))
        _settled(self._grown)
        return {"zombies": zombies, **(self.held() - self._before)}

    def _grown(self) -> int:
        return (self.held() - self._before).total()

    def new_in_shm(self) -> int:
        """Names in /dev/shm that were not there before its start, and that nobody else uses."""
        new = _names(SHM) - self._shm
        own = {one.pid for one in self.left()} if new else set()
        return len(new - {name for one in psutil.process_iter() if new and one.pid not in own for name in _mapped(one)})

    def terminate(self) -> None:
        """SIGTERM, to the process to which the engine's own way to stop it sends one."""
        java = [one for one in base.tree(self.process)[1:] if self.peer.name == "torchserve" and one.name() == "java"]
        with suppress(psutil.NoSuchProcess):
            (java[0] if java else self.process).send_signal(signal.SIGTERM)

    def stop(self, *, is_asked: bool = False) -> None:
        """SIGTERM, unless it had it; wait for the exit code, which stays None where it does not end in time."""
        if not is_asked:
            self.terminate()
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

    def held(self) -> Counter[str]:
        """What the engine's own process holds: descriptors by kind, threads, and what /metrics says is on its way."""
        if not self.is_ours:
            return Counter()
        requests = sum(float(value) for value in HELD.findall(self._page.get("/metrics").text))
        links = (_link(path) for path in Path(f"/proc/{self.process.pid}/fd").iterdir())
        held = Counter(NUMBER.sub("", link) for link in links if link)
        held[SEGMENT] -= min(held[SEGMENT], KEPT_SEGMENTS * len(self.process.children()))
        return held + Counter({"thread": self.process.num_threads(), "request": round(requests)})

    def resting(self) -> Counter[str]:
        """What it holds when that does not change any more."""
        deadline, held = time.monotonic() + SETTLE_S, self.held()
        while time.monotonic() < deadline:
            time.sleep(0.3)
            before, held = held, self.held()
            if before == held:
                break
        return held

    def remember(self) -> None:
        """What is held now is not left over later."""
        self._before = self.resting()

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


def _link(path: Path) -> str:
    with suppress(OSError):
        return str(path.readlink())
    return ""


def _names(folder: Path) -> frozenset[str]:
    return frozenset(path.name for path in folder.iterdir()) if folder.exists() else frozenset()


def _mapped(process: psutil.Process) -> set[str]:
    """Names in /dev/shm whose memory it has."""
    with suppress(OSError):
        return set(MAPPED.findall(Path(f"/proc/{process.pid}/maps").read_text()))
    return set()


def _is_zombie(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return False
