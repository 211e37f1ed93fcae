"""`make bench`: measure Samovar beside other engines, and write results, charts and tables.

Method and reading: benchmarks/README.md.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import load, machine, report
from benchmarks.measuring import OURS, Plan, Sample, summarise
from benchmarks.workloads import WORKLOADS, Workload, peer

HERE = Path(__file__).parent
LOCAL = HERE / "results" / "local"
PROGRESS = LOCAL / "progress.jsonl"
FULL = Plan(rounds=5, seconds=2, warm_up_s=1)
QUICK = Plan(rounds=1, seconds=1, warm_up_s=1)
SMOKE = Plan(rounds=1, seconds=0.2, warm_up_s=0)
QUICK_PEERS = ("nginx", "uvicorn")
QUICK_LEFT_OUT = ("growth-models", "growth-instances", "batching", "payload-64mib", "copies")


def main() -> None:
    """Choose, estimate, measure unit by unit, write."""
    arguments = _arguments()
    plan = SMOKE if arguments.smoke else QUICK if arguments.quick else FULL
    load.check_tools()
    is_short = arguments.quick or arguments.smoke
    workloads, names = chosen(arguments.only, is_short=is_short), peers(arguments.peers, is_short=is_short)
    for name in sorted({name for workload in workloads for name in workload.peers if name in names}):
        peer(name).install()
    plans = {workload.name: plan.longer(workload.longer) for workload in workloads}
    done = measure_all(workloads, names, plan, is_fresh=arguments.fresh)
    folder = HERE / "results" if plan == FULL else LOCAL
    for workload in workloads:
        samples = [sample for unit in workload.units(plan, names) for sample in done[workload.name, unit]]
        _write(folder, workload, plans[workload.name], samples, names)
    print(report.write(folder, [workload.name for workload in workloads], is_official=plan == FULL))


def measure_all(
    workloads: Sequence[Workload], names: Sequence[str], plan: Plan, *, is_fresh: bool
) -> dict[tuple[str, str], list[Sample]]:
    """Every unit of these workloads; what was measured before is kept unless `is_fresh`."""
    plans = {workload.name: plan.longer(workload.longer) for workload in workloads}
    done = {} if is_fresh else progress(plan)
    todo = [(one, unit) for one in workloads for unit in one.units(plan, names) if (one.name, unit) not in done]
    left_s = sum(one.seconds(unit, plans[one.name]) for one, unit in todo)
    print(f"{len(workloads)} workloads, {len(todo)} measurements left, about {minutes(left_s)}", flush=True)
    if done:
        print(f"{len(done)} were taken before and are kept (FRESH=1 measures them again)", flush=True)
    for number, (workload, unit) in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}, {minutes(left_s)} left] {workload.name} {unit}", flush=True)
        left_s -= workload.seconds(unit, plans[workload.name])
        began = time.monotonic()
        samples = workload.run(unit, plans[workload.name])
        keep(plan, workload, unit, samples, time.monotonic() - began)
        done[workload.name, unit] = samples
    return done


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="under three minutes: enough to see a regression of a fifth")
    size.add_argument("--smoke", action="store_true", help="a moment each: that everything runs, not how fast")
    parser.add_argument("--only", default="", help="workloads, or how their names begin: echo,plates")
    parser.add_argument("--peers", default="", help="engines to compare with: triton,mosec; none: Samovar alone")
    parser.add_argument("--fresh", action="store_true", help="keep nothing of a run that was interrupted")
    parser.add_argument("--list", action="store_true", help="print the workloads and their peers")
    arguments = parser.parse_args()
    if arguments.list:
        for workload in WORKLOADS:
            print(f"{workload.name:20} {workload.title} ({', '.join(workload.peers)})")
        raise SystemExit
    return arguments


def chosen(only: str, *, is_short: bool) -> list[Workload]:
    """By the beginnings of their names; all, less the long ones of a short run, where none is given."""
    wanted = [name for name in only.split(",") if name]
    for name in wanted:
        if not any(workload.name.startswith(name) for workload in WORKLOADS):
            known = ", ".join(workload.name for workload in WORKLOADS)
            raise SystemExit(f'no workload begins with "{name}"; there are {known}')
    if not wanted:
        return [workload for workload in WORKLOADS if not (is_short and workload.name in QUICK_LEFT_OUT)]
    return [workload for workload in WORKLOADS if workload.name.startswith(tuple(wanted))]


def peers(given: str, *, is_short: bool) -> Sequence[str]:
    """Samovar and whom it is compared with."""
    known = {name for workload in WORKLOADS for name in workload.peers}
    if not given:
        return (OURS, *QUICK_PEERS) if is_short else sorted(known)
    wanted = [name for name in given.split(",") if name != "none"]
    for name in wanted:
        if name not in known:
            raise SystemExit(f'no peer is called "{name}"; there are {", ".join(sorted(known))}')
    return (OURS, *wanted)


def _key(plan: Plan) -> list[Any]:
    """Samples of another commit or plan are not mixed with these."""
    return [machine.commit(), plan.rounds, plan.seconds, plan.warm_up_s]


def progress(plan: Plan) -> dict[tuple[str, str], list[Sample]]:
    """What has been measured of this state of the code by this plan, by workload and unit."""
    if not PROGRESS.exists():
        return {}
    key = _key(plan)
    entries = [json.loads(line) for line in PROGRESS.read_text().splitlines()]
    return {
        (entry["workload"], entry["unit"]): [Sample(**sample) for sample in entry["samples"]]
        for entry in entries
        if entry["key"] == key
    }


def keep(plan: Plan, workload: Workload, unit: str, samples: list[Sample], took_s: float) -> None:
    """Remember what was measured."""
    LOCAL.mkdir(parents=True, exist_ok=True)
    entry = {"key": _key(plan), "workload": workload.name, "unit": unit, "took_s": round(took_s, 1)}
    with PROGRESS.open("a") as file:
        file.write(json.dumps({**entry, "samples": [sample.to_json() for sample in samples]}) + "\n")


def _write(folder: Path, workload: Workload, plan: Plan, samples: list[Sample], names: Sequence[str]) -> None:
    versions: dict[str, str] = {}
    for name in workload.peers:
        if name in names:
            versions.update(peer(name).versions())
    found = {
        "workload": workload.name,
        "title": workload.title,
        "command": f"make bench ONLY={workload.name}",
        "plan": asdict(plan),
        "machine": machine.describe(),
        "versions": versions,
        "rows": summarise(samples),
        "samples": [sample.to_json() for sample in samples],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{workload.name}.json").write_text(json.dumps(found, indent=1) + "\n")


def minutes(seconds: float) -> str:
    """A time for people."""
    return f"{seconds / 60:.0f} min" if seconds > 100 else f"{seconds:.0f} s"


if __name__ == "__main__":
    main()
