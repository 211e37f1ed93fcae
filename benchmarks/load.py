"""The three load generators, each as one run that gives one sample."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.peers.base import CACHE
from benchmarks.work import Request

LUA = """
local file = io.open(%s, "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
%s

done = function(summary, latency)
  local e = summary.errors
  local parts = {summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9)}
  io.write("\\nRESULT ", table.concat(parts, " "), "\\n")
end
"""
RATE = Path(os.environ.get("CARGO_TARGET_DIR") or CACHE.parent / "target") / "release" / "samovar-rate"
TIMEOUT_S = 60
# h2load's windows in bits: 2^24 bytes, so that answers are never what it waits for.
WINDOW_BITS = "24"


@dataclass(frozen=True)
class Latencies:
    """What one run of a generator found; times in milliseconds."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float


class Load(Protocol):
    """A way of sending."""

    @property
    def label(self) -> str:
        """As tables name it."""

    def run(self, url: str, request: Request, seconds: float) -> Latencies:
        """Send for so long."""


@dataclass(frozen=True)
class Closed:
    """wrk: each connection sends its next request when it has its answer."""

    connections: int

    @property
    def label(self) -> str:
        """As tables name it."""
        return f"c={self.connections}"

    def run(self, url: str, request: Request, seconds: float) -> Latencies:
        """Send for so long; wrk counts whole seconds."""
        with tempfile.TemporaryDirectory() as folder:
            body, script = Path(folder) / "body", Path(folder) / "post.lua"
            body.write_bytes(request.body)
            headers = "\n".join(f"wrk.headers[ {_lua(name)} ] = {_lua(text)}" for name, text in request.headers.items())
            script.write_text(LUA % (_lua(str(body)), headers))
            command = ["wrk", "-t1", f"-c{self.connections}", f"-d{max(1, round(seconds))}s"]
            output = _output([*command, "--timeout", f"{TIMEOUT_S}s", "-s", str(script), url + request.path])
        found = re.search(r"^RESULT (.+)$", output, re.MULTILINE)
        if found is None:
            raise SystemExit(f"wrk failed: {output}")
        requests, duration, errors, *percentiles = (float(number) for number in found[1].split())
        p50, p90, p99, p999 = (value / 1e3 for value in percentiles)
        return Latencies(int(requests), duration / 1e6, int(errors), p50, p90, p99, p999)


@dataclass(frozen=True)
class Streams:
    """h2load: gRPC calls on so many connections, each with so many streams at a time."""

    connections: int
    streams: int

    @property
    def label(self) -> str:
        """As tables name it."""
        return f"{self.connections}x{self.streams}"

    def run(self, url: str, request: Request, seconds: float) -> Latencies:
        """Send for so long. h2load knows HTTP statuses alone: gRPC's are checked by a call before and after."""
        with tempfile.TemporaryDirectory() as folder:
            body, log = Path(folder) / "body", Path(folder) / "log"
            body.write_bytes(request.body)
            command = ["h2load", "-t1", f"-c{self.connections}", f"-m{self.streams}", f"-D{round(seconds * 1000)}ms"]
            command += ["-w", WINDOW_BITS, "-W", WINDOW_BITS, f"--log-file={log}", "-d", str(body)]
            for name, text in request.headers.items():
                command += ["-H", f"{name}: {text}"]
            output = _output([*command, url + request.path])
            lines = [line.split() for line in log.read_text().splitlines()]
        took = sorted(int(line[2]) for line in lines)
        counts = re.search(r"^requests: .* (\d+) failed, (\d+) errored, (\d+) timeout", output, re.MULTILINE)
        if counts is None or not took:
            raise SystemExit(f"h2load failed: {output}")
        errors = sum(int(count) for count in counts.groups()) + sum(line[1] != "200" for line in lines)
        p50, p90, p99, p999 = (took[min(len(took) - 1, int(len(took) * share))] / 1e3 for share in QUANTILES)
        return Latencies(len(took), seconds, errors, p50, p90, p99, p999)


@dataclass(frozen=True)
class Open:
    """samovar-rate: requests at a set rate, whatever the answers do."""

    per_second: int
    connections: int = 256

    @property
    def label(self) -> str:
        """As tables name it."""
        return f"{self.per_second:,}/s"

    def run(self, url: str, request: Request, seconds: float) -> Latencies:
        """Send for so long, after half a second that is not counted."""
        address = url.removeprefix("http://")
        headers = {"Host": address, "Content-Length": str(len(request.body)), **request.headers}
        head = "".join(
            [f"POST {request.path} HTTP/1.1\r\n", *(f"{name}: {text}\r\n" for name, text in headers.items())]
        )
        with tempfile.TemporaryDirectory() as folder:
            whole, plan = Path(folder) / "request", Path(folder) / "plan.json"
            whole.write_bytes(head.encode() + b"\r\n" + request.body)
            rate = {"per_second": self.per_second, "seconds": seconds, "warm_up_s": 0.5}
            where = {"address": address, "request": str(whole), "connections": self.connections}
            plan.write_text(json.dumps({**rate, **where}))
            found: dict[str, Any] = json.loads(_output([str(RATE), str(plan)]))
        percentiles = (found[f"{name}_us"] / 1e3 for name in ("p50", "p90", "p99", "p999"))
        return Latencies(found["requests"], found["seconds"], found["errors"], *percentiles)


QUANTILES = (0.5, 0.9, 0.99, 0.999)


def check_tools() -> None:
    """Fail with the cure if a generator is missing."""
    os.environ["PATH"] += ":/usr/sbin"  # where Debian has nginx
    for tool in ("wrk", "h2load", "nginx"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed; `make packages` installs it")


def _output(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if run.returncode:
        raise SystemExit(f"{command[0]} ended with {run.returncode}: {run.stdout}{run.stderr}")
    return run.stdout


def _lua(text: str) -> str:
    return "[==[" + text + "]==]"
