"""From what became of requests to figures."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.faults.client import Ask

T_95 = (math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, two-sided 95 %, by degrees of freedom."""
FAILURES = ("refused", "late", "error", "lost", "wrong", "unreachable")


def count(asks: Iterable[Ask], *kinds: str) -> int:
    """How many ended in one of these classes."""
    return sum(ask.kind in kinds for ask in asks)


def classes(asks: Sequence[Ask]) -> dict[str, float]:
    """How many requests there were, and how many did not get their answer, by class."""
    return {"requests": len(asks), **{kind: count(asks, kind) for kind in FAILURES}}


def asks_of(pairs: Iterable[tuple[Sequence[Ask], Sequence[Ask]]]) -> list[Ask]:
    """Those of every piece."""
    return [ask for pair in pairs for part in pair for ask in part]


def p99_ms(asks: Iterable[Ask], kind: str = "ok") -> float:
    """Of those in this class, from when they were due; infinite where there is none."""
    took = sorted(ask.took_s for ask in asks if ask.kind == kind)
    return took[min(len(took) - 1, int(len(took) * 0.99))] * 1e3 if took else math.inf


def p99_ratio(pairs: Sequence[tuple[Sequence[Ask], Sequence[Ask]]]) -> dict[str, float]:
    """p99 under the fault by p99 without, of pairs measured in turn: the geometric mean, and its 95 % interval.

    The interval is Student's, of the logarithms. One pair has none. No ratio is where a piece has no right answer.
    """
    found = {"pairs": float(len(pairs))}
    both = [(p99_ms(quiet), p99_ms(fault)) for quiet, fault in pairs]
    if not all(math.isfinite(one) for pair in both for one in pair):
        return found
    logs = [math.log(fault / quiet) for quiet, fault in both]
    mean = statistics.fmean(logs)
    found["p99_ratio"] = math.exp(mean)
    if len(logs) > 1:
        half = T_95[len(logs) - 1] * statistics.stdev(logs) / math.sqrt(len(logs))
        found |= {"p99_ratio_low": math.exp(mean - half), "p99_ratio_high": math.exp(mean + half)}
    return found


def settle(asks: Iterable[Ask], runs: Mapping[int, Sequence[float]]) -> None:
    """What was refused after it had begun was not refused at admission."""
    for ask in asks:
        if ask.kind == "refused" and ask.id in runs:
            ask.kind = "error"


def percent(part: float, whole: float) -> float:
    """Of nothing, 0."""
    return 100 * part / whole if whole else 0.0


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Four digits."""
    return {name: float(f"{value:.4g}") if value % 1 else value for name, value in figures.items()}
