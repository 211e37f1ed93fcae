"""What the suite needs to know of an engine in order to measure it: how it is installed, started, asked and read."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psutil
from benchmarks.work import Answer, Inputs, Request, Work

PORTS = (15_000, 32_000)
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samovar" / "peers"


@dataclass(frozen=True)
class Ports:
    """Free ports of 127.0.0.1; a peer takes as many as it needs."""

    http: int
    grpc: int
    others: tuple[int, ...]


@dataclass
class Running:
    """A peer that has given its first right answer."""

    process: psutil.Popen
    ports: Ports
    log: Path
    start_s: float
    """From the start of the process to its first right answer, in seconds."""
    idle_rss_mib: float = 0.0
    """Of all its processes, after the first answer."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def url(self, form: str) -> str:
        """Where requests of this form go."""
        return f"http://127.0.0.1:{self.ports.grpc if form == 'grpc' else self.ports.http}"


class Peer(ABC):
    """One engine. A subclass says what it cannot inherit; its models lie in a folder beside it."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """What its own environment is made of, by name; none: it runs where the suite runs."""
    works: ClassVar[Mapping[str, frozenset[str]]]
    """The kinds of work that it does, and the forms in which it takes each: json, binary, grpc, upload."""
    start_timeout_s: float = 60.0

    @abstractmethod
    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """The command that serves this work in the foreground. `folder` is empty and its own.

        `tuning` is empty for defaults; for STEADY it may have `max_batch_size` and `delay_ms`, by hand; `workers` says
        how many processes run the model.
        """

    @abstractmethod
    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """The request for these inputs in this form."""

    @abstractmethod
    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """What an answer says: an array, texts, or what was JSON."""

    def environment(self, folder: Path) -> Mapping[str, str]:
        """Variables that the command needs besides the usual ones."""
        del folder
        return {}

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return CACHE / self.name / "bin" / "python" if self.packages else Path(sys.executable)

    def install(self) -> None:
        """Make its environment, unless it is there and complete."""
        marker = CACHE / self.name / "installed"
        wanted = "\n".join(self.packages)
        if not self.packages or (marker.exists() and marker.read_text() == wanted):
            return
        print(f"installing {', '.join(self.packages)} ...", flush=True)
        uv = str(Path(sys.executable).parent / "uv")
        base = ["--quiet", "--python", str(self.python)]
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, CACHE / self.name], check=True)
        subprocess.run([uv, "pip", "install", *base, "--compile-bytecode", *self.packages], check=True)
        self.after_install()
        marker.write_text(wanted)

    def after_install(self) -> None:  # noqa: B027 - most need nothing
        """What its environment needs besides packages."""

    def versions(self) -> dict[str, str]:
        """Of its packages."""
        if not self.packages:
            return {self.name: version(self.name)}
        names = [name.split("[")[0].split("<")[0].split("=")[0] for name in self.packages]
        code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
        found = subprocess.run([self.python, "-c", code, *names], capture_output=True, text=True, check=True).stdout
        return dict(zip(names, found.split(), strict=True))

    @contextmanager
    def serve(self, work: Work, form: str, folder: Path, tuning: Mapping[str, Any] | None = None) -> Iterator[Running]:
        """Start it, wait for the first right answer, and end it with every process that it started."""
        folder.mkdir(parents=True, exist_ok=True)
        ports = Ports(free_port(), free_port(), tuple(free_port() for _ in range(4)))
        command = self.command(work, folder, ports, tuning or {})
        log = folder / "log.txt"
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SAMOVAR_", "PYTHONPATH"))}
        with log.open("wb") as output:
            began = time.monotonic()
            process = psutil.Popen(
                command,
                cwd=folder,
                env={**own, **self.environment(folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            running = Running(process, ports, log, 0.0)
            self._wait(running, work, form)
            running.start_s = round(time.monotonic() - began, 3)
            running.idle_rss_mib = resident_mib(process)
            yield running
        finally:
            end(process)

    def ask(self, running: Running, work: Work, form: str) -> bool:
        """One request, without a load generator; whether the answer is right. Raises httpx.TransportError."""
        inputs = work.inputs()
        request = self.request(work, form, inputs)
        got = self.exchange(running, form, request)
        return got is not None and work.right(inputs, self.answer(work, form, got))

    def exchange(self, running: Running, form: str, request: Request) -> Answer | None:
        """Send one request; None if it was refused. Raises httpx.TransportError."""
        got = httpx.post(running.url(form) + request.path, content=request.body, headers=request.headers, timeout=60)
        return Answer(got.content, got.headers) if got.status_code == 200 else None

    def _wait(self, running: Running, work: Work, form: str) -> None:
        deadline = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if self.ask(running, work, form):
                    return
            with contextlib.suppress(psutil.TimeoutExpired):
                raise SystemExit(f"{self.name} ended with {running.process.wait(0.02)}\n{tail(running.log)}")
        raise SystemExit(f"{self.name} gave no right answer in {self.start_timeout_s:g} s\n{tail(running.log)}")


def tail(log: Path) -> str:
    """The end of what it printed."""
    return log.read_text(errors="replace")[-3000:]


def free_port() -> int:
    """A port that is free, below those that the kernel gives to clients: a load before may have left thousands."""
    while True:
        port = random.randrange(*PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def tree(process: psutil.Process) -> list[psutil.Process]:
    """It and everything that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def resident_mib(process: psutil.Process) -> float:
    """Resident memory of the tree, memory that is shared counted each time."""
    total = 0
    for one in tree(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return round(total / 2**20, 1)


def end(process: psutil.Popen, timeout_s: float = 20.0) -> None:
    """SIGTERM to the first, SIGKILL to what is left of the tree."""
    everything = tree(process)
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        process.send_signal(signal.SIGTERM)
        process.wait(timeout_s)
    for one in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(everything, timeout=timeout_s)
