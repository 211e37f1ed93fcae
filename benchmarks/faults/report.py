"""From results to docs/reliability.md and its chart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from benchmarks.charts import COLORS, GRID, INK
from benchmarks.faults.wanted import CANNOT, WANTED
from benchmarks.measuring import OURS
from benchmarks.report import ROOT, aligned, filled, markdown

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "samovar"  # the same figures give the same file

import matplotlib.pyplot as plt  # noqa: E402 - after the choice of the backend

RESULTS = ROOT / "benchmarks" / "results" / "faults"
PAGE = ROOT / "docs" / "reliability.md"
Results = dict[str, Any]
# Row, figure, title: what a chart can show of everybody.
PANELS = (
    ("kill", "failed_per_kill", "requests that fail when\na worker is killed"),
    ("stall", "replaced_pct", "stalled workers replaced\nwithin 8 s, %"),
    ("overload", "goodput_pct", "goodput under five times\nthe load, %"),
    ("drain", "lost_per_drain", "accepted requests lost\nwhen an engine is stopped"),
    ("vanish", "run_pct", "waiting requests of gone\nclients that ran, %"),
)
THEIRS = {
    "kill": ("requests", "kills", "error", "refused", "late", "lost", "wrong", "failed_per_kill", "detected_ms"),
    "stall": ("stalls", "in_time_pct", "overshoot_ms", "replaced_pct", "replaced_s", "lost"),
    "overload": ("requests", "goodput_pct", "refused", "refusal_p99_ms", "retry_after_pct", "error", "lost", "rss_mib"),
    "drain": ("drains", "requests", "error", "lost", "lost_per_drain", "exit_not_0", "exit_s"),
    "vanish": ("requests", "queued", "run_pct", "half_closed_run_pct", "error", "late", "lost"),
}
"""What is told of every engine, before `leaked`."""


def write(folder: Path, rows: Sequence[str], *, is_official: bool) -> str:
    """The chart and, of an official run, the page; the tables of these rows as text for the terminal."""
    found = {row: _read(folder / f"{row}.json") for row in rows}
    if is_official:
        update(folder)
    texts = [aligned(own_table(found))]
    texts += [f"\n{found[row]['title']}\n{aligned(their_table(found[row]))}" for row in THEIRS if row in found]
    return "\n".join([*texts, f"\nwritten to {folder.relative_to(ROOT)}"])


def update(folder: Path) -> None:
    """Write the chart, and every generated part of the page, from the results that are there."""
    found = {row: _read(folder / f"{row}.json") for row in WANTED if (folder / f"{row}.json").exists()}
    draw(found, folder / "faults.svg")
    page = PAGE.read_text()
    for name, text in parts(found).items():
        page = filled(page, name, text)
    PAGE.write_text(page)


def parts(found: dict[str, Results]) -> dict[str, str]:
    """What stands between the marks of the page, by their names."""
    theirs = {f"faults-{row}": _section(found[row]) for row in THEIRS if row in found}
    chart = {"faults-chart": "![What is lost when things break](../benchmarks/results/faults/faults.svg)"}
    return {"faults": markdown(own_table(found)), "faults-machine": _machine(found), **chart, **theirs}


def own_table(found: dict[str, Results]) -> list[list[str]]:
    """Samovar's figures beside what is wanted, row by row."""
    table = [["row", "figure", "now", "wanted", "met"]]
    for row, wanted in WANTED.items():
        figures = found[row]["figures"].get(OURS, {}) if row in found else {}
        for each in wanted:
            if each.figure in figures:
                value = figures[each.figure]
                met = "" if not each.bound else "yes" if each.is_met(value) else "**no**"
                table.append([row, each.says, _cell(figures, each.figure), each.bound, met])
    return table


def their_table(results: Results) -> list[list[str]]:
    """A line for each engine."""
    figures = results["figures"]
    names = [name for name in (*THEIRS[results["row"]], "leaked") if any(name in each for each in figures.values())]
    heads = {wanted.figure: wanted.says for wanted in WANTED[results["row"]]}
    head = ["engine", *(heads.get(name, name.replace("_", " ")) for name in names)]
    return [head, *([peer, *(_cell(each, name) for name in names)] for peer, each in figures.items())]


def _cell(figures: dict[str, float], name: str) -> str:
    if name not in figures:
        return "-"
    if f"{name}_low" in figures:
        return f"{figures[name]:.2f} ({figures[f'{name}_low']:.2f}-{figures[f'{name}_high']:.2f})"
    return f"{figures[name]:,.4g}" if figures[name] < 1e4 else f"{figures[name]:,.0f}"


def _section(results: Results) -> str:
    notes = [
        f"- {peer}: {CANNOT[results['row'], peer]}" for peer in results["figures"] if (results["row"], peer) in CANNOT
    ]
    table = markdown(their_table(results))
    return "\n\n".join(
        [
            f"`{results['command']}`, commit {results['machine']['commit']}",
            table,
            *(["\n".join(notes)] if notes else []),
        ]
    )


def _machine(found: dict[str, Results]) -> str:
    lines = dict.fromkeys(
        f"- {machine['cpus']} processors ({machine['cpu']}), {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
        f"Python {machine['python']}"
        for machine in (results["machine"] for results in found.values())
    )
    versions = sorted(
        {f"{name} {version}" for results in found.values() for name, version in results["versions"].items()}
    )
    scales = dict.fromkeys(
        f"- {peer}: {', '.join(f'{name} {value:g}' for name, value in scale.items() if name != 'name')}"
        for results in found.values()
        for peer, scale in results["scales"].items()
    )
    return "\n".join([*lines, f"- {', '.join(versions)}", "", "How much was done:", "", *scales])


def draw(found: dict[str, Results], path: Path) -> None:
    """Bars of every engine, a panel for each row that everybody goes through."""
    panels = [panel for panel in PANELS if panel[0] in found]
    figure, axes = plt.subplots(1, len(panels), figsize=(2.9 * len(panels), 2.6), squeeze=False)
    for (row, name, title), place in zip(panels, axes[0], strict=True):
        figures = {peer: each[name] for peer, each in found[row]["figures"].items() if name in each}
        peers = list(figures)[::-1]
        place.barh(peers, [figures[peer] for peer in peers], color=[COLORS[peer] for peer in peers], height=0.7)
        for number, peer in enumerate(peers):
            place.annotate(f" {figures[peer]:.3g}", (figures[peer], number), va="center", fontsize=8, color=INK)
        place.set_xlim(0, max([*figures.values(), 1]) * 1.25)
        place.set_title(title, fontsize=9, color=INK)
        place.grid(axis="x", color=GRID)
        place.set_axisbelow(True)
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(colors=INK, length=0, labelsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _read(path: Path) -> Results:
    results: Results = json.loads(path.read_text())
    return results
