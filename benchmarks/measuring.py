"""One measurement, repeated if somebody else was busy meanwhile; and what many of them say together."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.load import Load
from benchmarks.machine import Clock, cpus
from benchmarks.peers.base import Running, resident_mib
from benchmarks.work import Request

# Of all processor time while a load ran. A quiet machine shows 0 to 3 %: interrupts, and the kernel's own threads.
DISTURBED = 0.08
ATTEMPTS = 3
OURS = "samovar"
# In place of a load: how a peer started.
START = "start"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    warm_up_s: float

    def longer(self, times: int) -> "Plan":
        """The same, each measurement so many times as long."""
        return replace(self, seconds=self.seconds * times)


@dataclass(frozen=True)
class Sample:
    """Figures of one peer under one load in one round."""

    load: str
    peer: str
    figures: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """For the file of progress."""
        return asdict(self)


@dataclass(frozen=True)
class Target:
    """What is sent to whom, in which form."""

    running: Running
    request: Request
    form: str


def measure(target: Target, load: Load, plan: Plan, peer: str) -> Sample:
    """Warm up, measure; again, up to three times, while foreign processes disturb."""
    if plan.warm_up_s:
        load.run(target.running.url(target.form), target.request, plan.warm_up_s)
    found = [_once(target, load, plan.seconds)]
    while found[-1]["foreign_share"] > DISTURBED and len(found) < ATTEMPTS:
        found.append(_once(target, load, plan.seconds))
    return Sample(load.label, peer, min(found, key=lambda figures: figures["foreign_share"]))


def _once(target: Target, load: Load, seconds: float) -> dict[str, float]:
    clock = Clock(target.running.process)
    found = load.run(target.running.url(target.form), target.request, seconds)
    used = clock.used()
    return {
        "per_s": round(found.requests / found.seconds, 2),
        "p50_ms": round(found.p50_ms, 4),
        "p90_ms": round(found.p90_ms, 4),
        "p99_ms": round(found.p99_ms, 4),
        "p999_ms": round(found.p999_ms, 4),
        "errors": found.errors,
        "gb_per_s": round(found.requests / found.seconds * len(target.request.body) / 1e9, 4),
        "cpu_s_per_1000": round(used.server / max(1, found.requests) * 1000, 4),
        "generator_cores": round(used.generator / used.wall, 3),
        "foreign_share": round(used.foreign / (used.wall * cpus()), 4),
        "rss_mib": resident_mib(target.running.process),
    }


def summarise(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """For each load and peer: the median of each figure, and the least and greatest."""
    grouped: dict[tuple[str, str], list[Mapping[str, float]]] = defaultdict(list)
    for sample in samples:
        grouped[sample.load, sample.peer].append(sample.figures)
    return [
        {
            "load": load,
            "peer": peer,
            "rounds": len(found),
            "median": {name: statistics.median(one[name] for one in found) for name in found[0]},
            "least": {name: min(one[name] for one in found) for name in found[0]},
            "greatest": {name: max(one[name] for one in found) for name in found[0]},
        }
        for (load, peer), found in grouped.items()
    ]
