"""What is promised of the figures: a gate that must hold, and a goal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.measuring import OURS

BEST = "the best of all"
UNBATCHED = f"{OURS} (max_batch_size=1)"


@dataclass(frozen=True)
class Margin:
    """A figure of ours, alone or beside that of a peer, against its gate and its goal."""

    workload: str
    load: str
    figure: str
    gate: float
    goal: float
    peer: str = ""
    is_less_better: bool = False
    base_load: str = ""
    """The other figure's load, where it is not ours; without a peer that figure is our own too."""
    is_difference: bool = False
    """From the other figure; else it is divided by that."""

    def value(self, results: Mapping[str, Any]) -> float | None:
        """From the results of its workload; None if they do not have it."""
        ours = self._figure(results, OURS, self.load)
        if ours is None or not (self.peer or self.base_load):
            return ours
        base = (
            self._best(results)
            if self.peer == BEST
            else self._figure(results, self.peer or OURS, self.base_load or self.load)
        )
        if not base:
            return None
        return ours - base if self.is_difference else ours / base

    def _figure(self, results: Mapping[str, Any], peer: str, load: str) -> float | None:
        for row in results["rows"]:
            if row["peer"] == peer and row["load"] == load:
                value: float | None = row["median"].get(self.figure)
                return value
        return None

    def _best(self, results: Mapping[str, Any]) -> float | None:
        found = [row["median"][self.figure] for row in results["rows"] if row["load"] == self.load]
        pick = min if self.is_less_better else max
        return pick(found) if found else None

    def verdict(self, value: float) -> str:
        """Goal, gate, or missed."""
        met = [bound for bound in (self.goal, self.gate) if (value <= bound if self.is_less_better else value >= bound)]
        return "goal" if self.goal in met else "gate" if met else "missed"


def _echo(load: str, gate: float, goal: float, workload: str = "echo-json") -> Margin:
    return Margin(workload, load, "per_s", gate, goal, "triton")


MARGINS: tuple[Margin, ...] = (
    _echo("c=1", 3.5, 4.5),
    Margin("echo-json", "c=1", "p50_ms", 0.33, 0.22, "triton", is_less_better=True),
    _echo("c=32", 5.5, 7.5),
    _echo("c=128", 5.0, 7.0),
    Margin("echo-json", "c=32", "per_s", 0.5, 0.65, "nginx"),
    _echo("c=32", 5.0, 7.0, "echo-binary"),
    _echo("1x32", 4.0, 6.0, "echo-grpc"),
    _echo("32x1", 4.0, 5.0, "echo-grpc"),
    _echo("128x1", 4.5, 7.0, "echo-grpc"),
    _echo("c=8", 6.0, 10.0, "image-json"),
    _echo("c=8", 2.0, 3.0, "image-binary"),
    _echo("8x1", 1.5, 2.0, "image-grpc"),
    Margin("payload-16mib", "c=4", "gb_per_s", 0.7, 1.2),
    Margin("copies", "16 MiB in", "copies", 2.0, 1.0, is_less_better=True),
    Margin("copies", "16 MiB out", "copies", 1.0, 1.0, is_less_better=True),
    Margin("batching", "c=64", "per_s", 0.9, 0.98, BEST),
    Margin("batching", "c=128", "per_s", 0.9, 0.98, BEST),
    Margin("batching", "c=1", "p50_ms", 0.2, 0.1, UNBATCHED, is_less_better=True, is_difference=True),
    Margin("cnn", "c=1", "per_s", 0.95, 0.98, "bare loop"),
    Margin("cnn", "c=2", "per_s", 0.95, 0.98, "bare loop", base_load="c=1"),
    Margin("plates-bare", "c=1", "per_s", 0.95, 0.98, "bare loop"),
    Margin("plates", "c=8", "per_s", 1.0, 1.0, BEST),
    Margin("service", "c=1", "per_s", 1.1, 1.4, "uvicorn"),
    Margin("service", "c=32", "per_s", 1.1, 1.4, "uvicorn"),
    Margin("hops", "1 MiB", "hop_us", 200.0, 80.0, is_less_better=True),
    Margin("growth-models", "1,000 models", "p50_ms", 1.2, 1.05, is_less_better=True, base_load="1 models"),
    Margin("growth-connections", "10,000 connections", "kib_per_connection", 24.0, 12.0, is_less_better=True),
    Margin("footprint", "one model", "engine_rss_mib", 40.0, 28.0, is_less_better=True),
    Margin("footprint", "one model", "start_model_s", 1.2, 0.7, is_less_better=True),
    Margin("footprint", "one model", "start_service_s", 3.0, 2.0, is_less_better=True),
    Margin("footprint", "one model", "wheel_mb", 15.0, 6.0, is_less_better=True),
)


def of(workload: str) -> Iterable[Margin]:
    """Those of one workload."""
    return (margin for margin in MARGINS if margin.workload == workload)
