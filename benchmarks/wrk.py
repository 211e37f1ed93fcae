"""Run wrk with one thread against a URL and read what it found."""

import json
import subprocess
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = %s

done = function(summary, latency)
  local e = summary.errors
  local form = '{"requests": %%d, "duration_us": %%d, "errors": %%d, "p50_us": %%d, "p99_us": %%d}'
  io.write("\\nRESULT ", string.format(form,
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)), "\\n")
end
"""


@dataclass(frozen=True)
class Load:
    """What is sent: the same POST over and over."""

    connections: int
    seconds: int
    script: Path


@dataclass(frozen=True)
class Result:
    """What one run gave."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int

    def to_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def write_script(path: Path, body: bytes) -> None:
    """The Lua script that sends this body."""
    path.write_text(SCRIPT % ("[==[" + body.decode() + "]==]"))


def post(url: str, body: bytes) -> bytes:
    """One request of the load, without wrk; the answer's body."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return bytes(response.read())


def measure(url: str, load: Load) -> Result:
    """One run."""
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{load.seconds}s", "-s", str(load.script), url]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=load.seconds + 30)
    line = next((line for line in run.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(f"wrk failed: {run.stdout}{run.stderr}")
    found = json.loads(line.removeprefix("RESULT "))
    return Result(
        requests_per_s=round(found["requests"] / found["duration_us"] * 1e6, 1),
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        errors=found["errors"],
    )
