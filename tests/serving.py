"""A real engine as a child process: started by the `serve` fixture, watched, stopped, and looked at afterwards."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from http_door import Http

if TYPE_CHECKING:
    from grpc_door import Grpc

APPS = Path(__file__).parent / "apps"

# The compat suite runs in an environment without Samovar and names the interpreter that has it.
ENGINE_PYTHON = os.environ.get("TEST_ENGINE_PYTHON", sys.executable)

# Every process of one engine, grandchildren included, inherits this variable: what outlives the engine is found by it.
MARK = "TEST_SERVING_MARK"

both_transports = pytest.mark.parametrize("transport", ["shm", "inline"])
"""For tests that must hold over shared memory and over the socket alike."""


# What systemd does between fork and exec: descriptors from 3 on, and whom they are for.
_PASS_ON = """
import fcntl, os, sys
given = [int(number) for number in sys.argv[1].split(",")]
above = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100) for number in given]
os.closerange(3, 100)
for number, copy in enumerate(above, 3):
    os.dup2(copy, number)
os.environ.setdefault("LISTEN_FDS", str(len(given)))
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class NotReadyError(Exception):
    """The engine ended, or took too long, before it wrote its ready file."""


class HasNumber(Protocol):
    """A socket, or a file."""

    def fileno(self) -> int: ...


@dataclass(kw_only=True)
class Start:
    """What one engine is started with."""

    targets: list[str]
    folder: Path
    options: list[str] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    transport: str = "shm"
    ready_timeout_s: float = 30.0
    sockets: Sequence[HasNumber] = ()
    """What the engine inherits, as from systemd."""


class Served:
    """One `samovar serve` process."""

    def __init__(self, start: Start) -> None:
        self.mark = uuid.uuid4().hex
        self.ready_path = start.folder / "ready.json"
        self.stdout_path = start.folder / "stdout.txt"
        self.log_path = start.folder / "stderr.txt"
        self.ready: dict[str, Any] = {}
        self._start = start
        command = [ENGINE_PYTHON, "-m", "samovar", "serve", *start.targets, "--http-port", "0", "--grpc-port", "0"]
        command += ["--ready-file", str(self.ready_path), *start.options]
        environment = {
            **os.environ,
            **start.environment,
            MARK: self.mark,
            "SAMOVAR_TRANSPORT": start.transport,
        }
        numbers = [given.fileno() for given in start.sockets]
        if numbers:
            command = [sys.executable, "-c", _PASS_ON, ",".join(map(str, numbers)), *command]
        with self.stdout_path.open("wb") as stdout, self.log_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=start.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=numbers,
            )

    def wait_ready(self) -> "Served":
        """Return when start-up loads have ended; raise NotReadyError, with the log, if that does not come."""
        deadline = time.monotonic() + self._start.ready_timeout_s
        while not self._has_read_ready_file():
            if self._ended_within(0.02) or time.monotonic() > deadline:
                code = self.process.poll()
                what = f"exit code {code}" if code is not None else f"no ready file in {self._start.ready_timeout_s} s"
                raise NotReadyError(f"{what}\n{self.output()}")
        if self.ready["models"] and all(model["state"] == "failed" for model in self.ready["models"]):
            code = self.process.wait(timeout=self._start.ready_timeout_s)
            raise NotReadyError(f"exit code {code}\n{self.output()}")
        return self

    def _has_read_ready_file(self) -> bool:
        with contextlib.suppress(FileNotFoundError):  # not there yet, or gone with an engine that could serve nothing
            self.ready = json.loads(self.ready_path.read_text())
        return bool(self.ready)

    def _ended_within(self, seconds: float) -> bool:
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def pid(self) -> int:
        """The engine's process id."""
        return self.process.pid

    @property
    def port(self) -> int:
        """Where the HTTP door is."""
        return int(self.ready["ports"]["http"])

    @property
    def http(self) -> Http:
        """A client for the HTTP door."""
        return Http(self.port)

    @property
    def grpc(self) -> "Grpc":
        """A client for the gRPC door, on its own port."""
        from grpc_door import Grpc  # the environment of the other clients has no compiler of protocols

        return Grpc(int(self.ready["ports"]["grpc"]))

    def model(self, name: str) -> dict[str, Any]:
        """The ready file's entry of a model."""
        return next(entry for entry in self.ready["models"] if entry["name"] == name)

    def output(self) -> str:
        """Everything the engine has written so far, stdout first."""
        return self.stdout_path.read_text() + self.log_path.read_text()

    def log(self) -> list[dict[str, Any]]:
        """The engine's log: one object per JSON line of stderr. The last may still be under way."""
        whole, _, _ = self.log_path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def errors(self, count: int) -> list[dict[str, Any]]:
        """The lines of the log that tell of errors, once there are so many: they may come after the engine is ready."""
        deadline = time.monotonic() + self._start.ready_timeout_s
        while len(found := [line for line in self.log() if line["level"] == "ERROR"]) < count:
            if self._ended_within(0.02) or time.monotonic() > deadline:
                raise AssertionError(f"{len(found)} errors are told, not {count}: {self.output()}")
        return found

    def processes(self) -> list[int]:
        """Every living process of this engine but the engine itself: workers, spares and what they started."""
        return [pid for pid in marked(self.mark) if pid != self.pid]

    def workers(self) -> list[int]:
        """The worker processes, spares included."""
        return [pid for pid in self.processes() if "samovar worker" in command_line(pid)]

    def wait_gone(self, pids: list[int] | None = None, timeout_s: float = 5.0) -> list[int]:
        """Wait until these processes (all but the engine by default) have ended; what is left after the timeout."""
        deadline = time.monotonic() + timeout_s
        left = self.processes() if pids is None else pids
        return [pid for pid in left if not ended(pid, deadline - time.monotonic())]

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM; the exit code. Nothing may be left of the engine's tree."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=timeout_s)
        left = self.processes()
        assert not left, f"left behind: {[command_line(pid) for pid in left]}\n{self.output()}"
        return code

    def destroy(self) -> None:
        """SIGKILL to whatever is left; for the end of a test that went wrong."""
        self.process.kill()
        self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


class Serve(Protocol):
    """The fixture `serve` of conftest.py."""

    def __call__(
        self,
        *targets: str,
        options: list[str] = ...,
        environment: dict[str, str] = ...,
        ready: bool = ...,
        sockets: Sequence[HasNumber] = ...,
        timeout_s: float = ...,
    ) -> Served: ...


def marked(mark: str) -> list[int]:
    """Living processes that were started with this mark in their environment."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if needle in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it has ended, or belongs to somebody else
                continue
    return found


def command_line(pid: int) -> str:
    """The command line of a process, "" when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def ended(pid: int, timeout_s: float) -> bool:
    """Whether a process, not necessarily our child, ends within the timeout."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        readable, _, _ = select.select([descriptor], [], [], max(timeout_s, 0.0))
        return bool(readable)
    finally:
        os.close(descriptor)
