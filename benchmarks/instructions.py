"""`make bench-guard`: how many instructions the hot paths take, beside the figures in `guard/counts.json`.

Seconds on a busy machine differ by a tenth from run to run, instructions do not. callgrind counts each path with so
many rounds and with twice as many; the difference is what those rounds cost, without the start of the process.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

COUNTS = Path(__file__).parent / "guard" / "counts.json"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samovar"
GUARD = Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target") / "guard" / "samovar-guard"
PROFILES = Path(__file__).parent / "results" / "local" / "guard"
"""One file of callgrind per path, for callgrind_annotate."""
LIMIT = 0.03
"""A change of a larger share, in either direction, is a finding."""
UPDATE = "make bench-guard UPDATE=1"


@dataclass(frozen=True)
class HotPath:
    """What the program says that it can do."""

    name: str
    rounds: int
    round: str


def main() -> None:
    """Count, then compare or write."""
    parser = argparse.ArgumentParser(description="Count the instructions of the hot paths.")
    parser.add_argument("--update", action="store_true", help="write the figures instead of comparing them")
    update = parser.parse_args().update
    made_with, known = made_by(), json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    if not update:
        check_comparable(known.get("made_with", {}), made_with)
    paths = hot_paths()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        counts = dict(zip((path.name for path in paths), pool.map(count, paths), strict=True))
    print(table(paths, counts, known.get("instructions", {})))
    if update:
        COUNTS.write_text(json.dumps({"made_with": made_with, "instructions": counts}, indent=2) + "\n")
        print(f"written to {COUNTS}; commit it with the reason of each change")
        return
    then = known["instructions"]
    found = [name for name in then | counts if is_finding(then.get(name), counts.get(name))]
    if found:
        sys.exit(
            f"\n{', '.join(found)}: more than {LIMIT:.0%} away from {COUNTS.name}. If that is meant, {UPDATE} writes "
            f"the new figures, to be committed with the reason; if not, callgrind_annotate {PROFILES}/PATH shows where"
        )


def made_by() -> dict[str, str]:
    """What decides about instructions besides the source: compiler, processor's kind, libc, and who counts."""
    compiler = _output("rustc", "--version", "--verbose")
    fields = dict(line.split(": ", 1) for line in compiler.splitlines() if ": " in line)
    return {
        "rustc": f"{fields['release']} ({fields['commit-hash'][:9]})",
        "host": fields["host"],
        "simd": _simd(),
        "libc": " ".join(platform.libc_ver()),
        "valgrind": _output("valgrind", "--version").strip(),
    }


def _simd() -> str:
    """The widest that valgrind passes on: libc and some crates choose by it when they run."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return next((name for name in ("avx2", "avx", "asimd") if name in flags), "none")


def check_comparable(then: dict[str, str], now: dict[str, str]) -> None:
    """End where the figures of then say nothing about now."""
    differing = [name for name in now if then.get(name) != now[name]]
    if not differing:
        return
    changes = ", ".join(f"{name} {then.get(name, 'of no record')} then and {now[name]} now" for name in differing)
    print(f"nothing is compared: {COUNTS.name} was counted with {changes}")
    if "rustc" in differing:  # which rust-toolchain.toml sets, so that the figures belong into the same commit
        sys.exit(f"{UPDATE} writes the figures of this compiler, to be committed with the change of it")
    sys.exit(0)


def hot_paths() -> list[HotPath]:
    """In the program's order."""
    rows = (line.split("\t") for line in _output(str(GUARD)).splitlines())
    return [HotPath(name, int(rounds), text) for name, rounds, text in rows]


def count(path: HotPath) -> int:
    """Instructions of one round."""
    once, twice = (_counted(path, path.rounds * times) for times in (1, 2))
    return round((twice - once) / path.rounds)


def _counted(path: HotPath, rounds: int) -> int:
    PROFILES.mkdir(parents=True, exist_ok=True)
    profile = PROFILES / path.name
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", str(GUARD), path.name, str(rounds)]
    # Variables of the environment lie on the stack: where everything else lies must not depend on the user's.
    run = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, check=False)
    if run.returncode != 0:
        sys.exit(f"{path.name} failed with {run.returncode}:\n{run.stderr}")
    found = re.search(r"^(?:totals|summary): (\d+)$", profile.read_text(), re.MULTILINE)
    if found is None:
        sys.exit(f"{profile} has no total; see what valgrind says:\n{run.stderr}")
    return int(found[1])


def is_finding(was: int | None, now: int | None) -> bool:
    """A path that came or went is one too."""
    return was is None or now is None or abs(now - was) > LIMIT * was


def table(paths: list[HotPath], counts: dict[str, int], known: dict[str, int]) -> str:
    """One line per path: was, is, change."""
    rounds = {path.name: path.round for path in paths}
    lines = [f"{'instructions of a round':<20}  {'was':>12}  {'is':>12}  change"]
    for name in known | counts:
        was, now = known.get(name), counts.get(name)
        change = f"{now / was - 1:+.2%}" if was and now else "new" if now else "gone"
        mark = " <-" if is_finding(was, now) else ""
        lines.append(f"{name:<20}  {_number(was)}  {_number(now)}  {change:>8}{mark:<3}  {rounds.get(name, '')}")
    return "\n".join(lines)


def _number(value: int | None) -> str:
    return f"{'' if value is None else format(value, ','):>12}"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
