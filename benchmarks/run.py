"""Measure the engine's own cost: an echo model over HTTP JSON, beside nginx that answers with the same bytes.

`make bench` or `make bench QUICK=1`; method and reading: benchmarks/README.md.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.nginx import nginx
from benchmarks.wrk import Load, Result, measure, write_script
from scripts.serving_process import engine

HERE = Path(__file__).parent
CONNECTIONS = (1, 32)
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [i / 8 for i in range(16)]}]}
).encode()


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    rounds: int
    seconds: int


QUICK = Plan(rounds=3, seconds=2)
FULL = Plan(rounds=7, seconds=8)


def main() -> None:
    """Measure, print a table, leave a file; fail on any answer that is not a success."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a run of about half a minute")
    plan = QUICK if parser.parse_args().quick else FULL
    os.environ["PATH"] += ":/usr/sbin"  # where Debian has nginx
    for tool in ("wrk", "nginx"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed; `make packages` installs it")
    with tempfile.TemporaryDirectory() as folder:
        found = echo(Path(folder), plan)
    print(table(found["echo_json"]))
    print(f"start to first answer {found['start_s']:.2f} s, engine idle {found['engine_idle_mib']} MiB")
    print(f"written to {write({'machine': machine.describe(), **found}).relative_to(HERE.parent)}")
    errors = sum(run["errors"] for row in found["echo_json"] for runs in row["runs"].values() for run in runs)
    if errors:
        raise SystemExit(f"{errors} requests failed")


def echo(folder: Path, plan: Plan) -> dict[str, Any]:
    """Serve the echo model and nginx at once and measure them in turn."""
    script = folder / "post.lua"
    write_script(script, BODY)
    began = time.monotonic()
    with (folder / "engine.log").open("wb") as log, engine(HERE / "echo.py", output=log) as served:
        url = f"{served.url}/v2/models/echo/infer"
        answer = post(url)
        start_s = time.monotonic() - began
        idle_mib = machine.resident_mib(served.process.pid)
        with nginx(folder, answer) as peer:
            if post(peer) != answer:
                raise SystemExit("nginx answers with other bytes than the engine")
            rows = [compare({"samovar": url, "nginx": peer}, plan, script, count) for count in CONNECTIONS]
    return {"start_s": round(start_s, 3), "engine_idle_mib": idle_mib, "body_bytes": len(answer), "echo_json": rows}


def compare(urls: dict[str, str], plan: Plan, script: Path, connections: int) -> dict[str, Any]:
    """Alternate between the servers, so that a slow moment of the machine meets both."""
    runs: dict[str, list[Result]] = {name: [] for name in urls}
    for url in urls.values():
        measure(url, Load(connections, 1, script))  # warm-up, not counted
    for number in range(plan.rounds):
        for name in sorted(urls, reverse=number % 2 == 0):
            runs[name].append(measure(urls[name], Load(connections, plan.seconds, script)))
    medians = {name: median(results) for name, results in runs.items()}
    return {
        "connections": connections,
        "medians": {name: result.to_json() for name, result in medians.items()},
        "ratio": round(medians["samovar"].requests_per_s / medians["nginx"].requests_per_s, 3),
        "runs": {name: [result.to_json() for result in results] for name, results in runs.items()},
    }


def median(results: list[Result]) -> Result:
    """Each figure's own median; errors are summed."""
    return Result(
        requests_per_s=statistics.median(result.requests_per_s for result in results),
        p50_ms=statistics.median(result.p50_ms for result in results),
        p99_ms=statistics.median(result.p99_ms for result in results),
        errors=sum(result.errors for result in results),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """What people read."""
    head = ["connections", "samovar/s", "p50 ms", "p99 ms", "nginx/s", "p50 ms", "p99 ms", "ratio"]
    lines = ["echo FP32[1,16], JSON over HTTP, wrk -t1 (medians)", line(head)]
    for row in rows:
        cells = [str(row["connections"])]
        for name in ("samovar", "nginx"):
            result = row["medians"][name]
            cells += [f"{result['requests_per_s']:,.0f}", f"{result['p50_ms']:.2f}", f"{result['p99_ms']:.2f}"]
        lines.append(line([*cells, f"{row['ratio']:.2f}"]))
    return "\n".join(lines)


def line(cells: list[str]) -> str:
    """One row of the table."""
    return " ".join(cell.rjust(11) for cell in cells)


def post(url: str) -> bytes:
    """One request of the benchmark; the answer's body."""
    request = urllib.request.Request(url, BODY, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return bytes(response.read())


def write(found: dict[str, Any]) -> Path:
    """Keep the figures beside what they were measured on."""
    folder = HERE / "results" / "local"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"echo-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    return path


if __name__ == "__main__":
    main()
