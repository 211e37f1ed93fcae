"""Servers measured in turn on the same request: medians, their ratio, and the table that people read."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.wrk import Load, Result, measure

CONNECTIONS = (1, 32)


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    rounds: int
    seconds: int


def compare(urls: dict[str, str], plan: Plan, script: Path, connections: int) -> dict[str, Any]:
    """Alternate between `samovar` and one peer, so that a slow moment of the machine meets both."""
    runs: dict[str, list[Result]] = {name: [] for name in urls}
    for url in urls.values():
        measure(url, Load(connections, 1, script))  # warm-up, not counted
    for number in range(plan.rounds):
        for name in sorted(urls, reverse=number % 2 == 0):
            runs[name].append(measure(urls[name], Load(connections, plan.seconds, script)))
    medians = {name: median(results) for name, results in runs.items()}
    (peer,) = urls.keys() - {"samovar"}
    return {
        "connections": connections,
        "peer": peer,
        "medians": {name: result.to_json() for name, result in medians.items()},
        "ratio": round(medians["samovar"].requests_per_s / medians[peer].requests_per_s, 3),
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


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """What people read."""
    peer = rows[0]["peer"]
    head = ["connections", "samovar/s", "p50 ms", "p99 ms", f"{peer}/s", "p50 ms", "p99 ms", "ratio"]
    lines = [f"{title}, wrk -t1 (medians)", line(head)]
    for row in rows:
        cells = [str(row["connections"])]
        for name in ("samovar", peer):
            result = row["medians"][name]
            cells += [f"{result['requests_per_s']:,.0f}", f"{result['p50_ms']:.2f}", f"{result['p99_ms']:.2f}"]
        lines.append(line([*cells, f"{row['ratio']:.2f}"]))
    return "\n".join(lines)


def line(cells: list[str]) -> str:
    """One row of the table."""
    return " ".join(cell.rjust(11) for cell in cells)


def errors(rows: list[dict[str, Any]]) -> int:
    """Answers that were no success, in all runs."""
    return sum(run["errors"] for row in rows for runs in row["runs"].values() for run in runs)
