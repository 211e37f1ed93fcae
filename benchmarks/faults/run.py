"""`make faults`: harm Samovar and other engines under load, count what is lost, and write results, chart and tables.

Method and reading: docs/reliability.md.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks import machine
from benchmarks.faults import own_rows, report, rows
from benchmarks.faults.figures import FAILURES, rounded
from benchmarks.faults.rows import Figures, Scale
from benchmarks.faults.wanted import SAFETY, WANTED
from benchmarks.measuring import OURS, Plan, Sample
from benchmarks.peers.base import Peer
from benchmarks.run import LOCAL, measure_all
from benchmarks.workloads import STARTS, peer

FULL = Scale(
    "full",
    pairs=5,
    piece_s=6,
    overload_s=20,
    drains=20,
    vanishing=1500,
    poisons=15,
    swaps=30,
    storm=16,
    trees=10,
    cycles=500,
)
QUICK = replace(FULL, name="quick", pairs=2, piece_s=4, overload_s=6, drains=4, vanishing=500, poisons=5)
QUICK = replace(QUICK, swaps=10, storm=8, trees=4, cycles=20)
SMOKE = replace(QUICK, name="smoke", pairs=1, piece_s=2, overload_s=2, drains=1, vanishing=200, poisons=2)
SMOKE = replace(SMOKE, storm=4, trees=2, cycles=4)
SWITCH_S = 0.0005
"""5 ms is Python's own: so long a thread of the driver that does harm could keep the one that measures waiting."""
PEERS = (OURS, "triton", "torchserve", "mosec", "ray_serve")
QUICK_PEERS = (OURS, "mosec")


@dataclass(frozen=True)
class Row:
    """A line of the scorecard. A Workload, so that a run that was interrupted goes on after the last one."""

    row: str
    title: str
    ours: Callable[[Peer, Scale], Figures]
    takes_s: Callable[[Scale], float]
    """Beside the starts."""
    theirs: Callable[[Peer, Scale], Figures] | None = None
    starts: Callable[[Scale], int] = lambda _: 1
    longer: int = 1

    @property
    def name(self) -> str:
        """Apart from the workloads of `make bench`."""
        return f"faults-{self.row}"

    @property
    def peers(self) -> Sequence[str]:
        """Who goes through it."""
        return PEERS if self.theirs else (OURS,)

    def units(self, plan: Plan, peers: Sequence[str]) -> list[str]:
        """One for each engine."""
        del plan
        return [name for name in self.peers if name in peers]

    def run(self, unit: str, plan: Plan) -> list[Sample]:
        """One engine."""
        scale = scale_of(plan, unit)
        act = self.ours if unit == OURS else self.theirs
        assert act is not None
        figures = act(peer(unit), scale)
        figures["failed"] = sum(figures.get(kind, 0) for kind in FAILURES)
        return [Sample(scale.name, unit, rounded(figures))]

    def seconds(self, unit: str, plan: Plan) -> float:
        """About how long that takes."""
        scale = scale_of(plan, unit)
        return self.starts(scale) * (STARTS[unit] + 2) + self.takes_s(scale)


def scale_of(plan: Plan, unit: str) -> Scale:
    """By the plan under which results are kept; the peers, which start slowly, do less."""
    scale = next(scale for scale in (FULL, QUICK, SMOKE) if plan_of(scale) == plan)
    if unit == OURS:
        return scale
    few = min(scale.drains, 3)
    return replace(
        scale,
        pairs=min(scale.pairs, 3),
        overload_s=min(scale.overload_s, 10.0),
        drains=few,
        vanishing=scale.vanishing // 2,
    )


def plan_of(scale: Scale) -> Plan:
    """Results are kept by it."""
    return Plan(scale.pairs, scale.piece_s, 0)


def _pieces(scale: Scale) -> float:
    return 4 + 2 * scale.pairs * scale.piece_s


ROWS: tuple[Row, ...] = (
    Row("kill", "SIGKILL a worker of four, every 2 s", rows.kill, _pieces, rows.kill),
    Row(
        "stall",
        "the worker stops: SIGSTOP, a loop in C that keeps the GIL",
        own_rows.stall,
        _pieces,
        rows.stall,
        lambda _: 2,
    ),
    Row("poison", "one request of 500 aborts its worker", own_rows.poison, lambda scale: 4 + scale.poisons * 1.3),
    Row(
        "memory",
        "one request of 50 wants more memory than allowed",
        own_rows.memory,
        lambda scale: 4 + scale.pairs * scale.piece_s,
    ),
    Row(
        "crash-loop",
        "a model that dies in its load",
        own_rows.crash_loop,
        lambda scale: 4 + (scale.pairs + 1) // 2 * (10 + scale.piece_s),
    ),
    Row(
        "overload",
        "five times what two workers can do, queue 128",
        rows.overload,
        lambda scale: 6 + scale.overload_s,
        rows.overload,
    ),
    Row(
        "drain",
        "SIGTERM under load",
        rows.drain,
        lambda scale: 1.5 * scale.drains,
        rows.drain,
        lambda scale: scale.drains,
    ),
    Row(
        "loading",
        "a neighbour that is loaded and unloaded all the time",
        own_rows.loading,
        lambda scale: own_rows.LONGER * _pieces(scale),
    ),
    Row(
        "swap",
        "new versions, one of ten broken",
        own_rows.swap,
        lambda scale: 4 + scale.pairs * scale.piece_s / 2 + scale.swaps,
    ),
    Row("storm", "loads and unloads by many threads", own_rows.storm, lambda scale: 8 + 2.0 * scale.storm),
    Row("vanish", "three clients of ten vanish", rows.vanish, lambda scale: 4 + scale.vanishing / 120, rows.vanish),
    Row(
        "tree",
        "SIGKILL of everything; loads and unloads",
        own_rows.tree,
        lambda scale: 4.0 * scale.trees + 0.5 * scale.cycles,
    ),
)


def main() -> None:
    """Choose, estimate, harm, write."""
    arguments = _arguments()
    scale = SMOKE if arguments.smoke else QUICK if arguments.quick else FULL
    chosen = _chosen(arguments.only)
    names = _peers(arguments.peers, scale)
    for name in names:
        peer(name).install()
    plan = plan_of(scale)
    sys.setswitchinterval(SWITCH_S)
    done = measure_all(chosen, names, plan, is_fresh=arguments.fresh)
    folder = report.RESULTS if scale == FULL else LOCAL / "faults"
    for row in chosen:
        samples = [sample for unit in row.units(plan, names) for sample in done[row.name, unit]]
        _write(folder, row, samples)
    print(report.write(folder, [row.row for row in chosen], is_official=scale == FULL))
    check(chosen, {row.row: done[row.name, OURS][0].figures for row in chosen})


def check(chosen: Sequence[Row], ours: dict[str, Any]) -> None:
    """Every figure that is wanted is there, and those of safety are met."""
    faults = []
    for row in chosen:
        for wanted in WANTED[row.row]:
            value = ours[row.row].get(wanted.figure)
            if value is None and wanted.figure != "replaced_s":  # nothing is replaced where nothing came back
                faults.append(f"{row.row} has no figure {wanted.figure}")
            elif value is not None and wanted.figure in SAFETY and not wanted.is_met(value):
                faults.append(f"{row.row}: {wanted.figure} is {value:g}")
    if faults:
        raise SystemExit("unsafe: " + "; ".join(faults))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="under six minutes, beside mosec alone")
    size.add_argument("--smoke", action="store_true", help="seconds each, Samovar alone: that it is safe, not how fast")
    parser.add_argument("--only", default="", help=f"rows: {','.join(row.row for row in ROWS)}")
    parser.add_argument("--peers", default="", help="engines to compare with: triton,mosec; none: Samovar alone")
    parser.add_argument("--fresh", action="store_true", help="keep nothing of a run that was interrupted")
    return parser.parse_args()


def _chosen(only: str) -> list[Row]:
    wanted = [name for name in only.split(",") if name]
    for name in wanted:
        if name not in WANTED:
            raise SystemExit(f'no row is called "{name}"; there are {", ".join(WANTED)}')
    return [row for row in ROWS if not wanted or row.row in wanted]


def _peers(given: str, scale: Scale) -> Sequence[str]:
    if not given:
        return {"full": PEERS, "quick": QUICK_PEERS, "smoke": (OURS,)}[scale.name]
    wanted = [name for name in given.split(",") if name not in {"none", OURS}]
    for name in wanted:
        if name not in PEERS:
            raise SystemExit(f'no peer is called "{name}"; there are {", ".join(PEERS[1:])}')
    return (OURS, *wanted)


def _write(folder: Any, row: Row, samples: Sequence[Sample]) -> None:
    versions: dict[str, str] = {}
    for sample in samples:
        versions.update(peer(sample.peer).versions())
    plan = plan_of(next(scale for scale in (FULL, QUICK, SMOKE) if scale.name == samples[0].load))
    found = {
        "row": row.row,
        "title": row.title,
        "command": f"make faults ONLY={row.row}",
        "scales": {sample.peer: asdict(scale_of(plan, sample.peer)) for sample in samples},
        "machine": machine.describe(),
        "versions": versions,
        "figures": {sample.peer: sample.figures for sample in samples},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{row.row}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
