"""From results to what people read: tables in the terminal, README and docs/performance.md, and charts."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import charts, margins
from benchmarks.measuring import START

ROOT = Path(__file__).parents[1]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "performance.md"
# Figure, head of its column, format.
COLUMNS = (
    ("per_s", "per second", ",.0f"),
    ("gb_per_s", "GB/s", ".2f"),
    ("p50_ms", "p50 ms", ".2f"),
    ("p90_ms", "p90 ms", ".2f"),
    ("p99_ms", "p99 ms", ".2f"),
    ("p999_ms", "p99.9 ms", ".2f"),
    ("cpu_s_per_1000", "CPU s / 1,000", ".3f"),
    ("generator_cores", "generator, cores", ".2f"),
    ("errors", "errors", ".0f"),
    ("copies", "copies", ".2f"),
    ("hop_us", "hop us", ",.0f"),
    ("kib_per_connection", "KiB each", ".1f"),
    ("engine_rss_mib", "engine MiB", ".1f"),
    ("rss_mib", "RSS MiB", ",.0f"),
    ("processes", "processes", ".0f"),
    ("import_ms", "import ms", ".0f"),
    ("wheel_mb", "wheel MB", ".1f"),
    ("start_model_s", "start, model s", ".2f"),
    ("start_service_s", "start, service s", ".2f"),
    ("start_s", "start s", ".2f"),
    ("idle_rss_mib", "idle RSS MiB", ",.0f"),
    ("all_rss_mib", "all RSS MiB", ",.0f"),
)
Results = dict[str, Any]


def write(folder: Path, names: Sequence[str], *, is_official: bool) -> str:
    """Charts and, of an official run, the documents; the tables of these workloads as text for the terminal."""
    found = [read(folder / f"{name}.json") for name in names]
    for results in found:
        charts.draw(results, folder / f"{results['workload']}.svg")
    if is_official:
        update(folder)
    texts = [f"\n{results['title']}\n{aligned(_rows(results))}" for results in found]
    verdicts = margin_rows(found)
    if len(verdicts) > 1:
        texts.append(f"\nmargins\n{aligned(verdicts)}")
    return "\n".join([*texts, f"\nwritten to {folder.relative_to(ROOT)}"])


def read(path: Path) -> Results:
    """One workload's file."""
    results: Results = json.loads(path.read_text())
    return results


def update(folder: Path) -> None:
    """Write every generated part of README and docs/performance.md from the results that are there."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    README.write_text(filled(README.read_text(), "margins", markdown(margin_rows(found))))
    page = filled(PAGE.read_text(), "margins", markdown(margin_rows(found)))
    page = filled(page, "machine", _machines(found))
    for results in found:
        page = filled(page, results["workload"], _section(results))
    PAGE.write_text(page)


def filled(text: str, name: str, content: str) -> str:
    """Replace what stands between the marks of this name."""
    pattern = re.compile(rf"(<!-- bench {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f'no place for "{name}": a document lacks the line <!-- bench {name} -->')
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def _section(results: Results) -> str:
    plan = results["plan"]
    chart = f"![{results['title']}](../benchmarks/results/{results['workload']}.svg)"
    count = max(row["rounds"] for row in results["rows"])
    rounds = f"`{results['command']}`: medians of {count} rounds of {plan['seconds']} s"
    commit = f"commit {results['machine']['commit']}"
    spread = "; in brackets the least and the greatest rate" if plan["rounds"] > 1 else ""
    return f"{chart}\n\n{rounds}{spread}; {commit}.\n\n{markdown(_rows(results))}"


def _rows(results: Results) -> list[list[str]]:
    """The table of a workload, its head first. Columns that no row has are left out."""
    rows = [row for row in results["rows"] if row["load"] != START]
    starts = {row["peer"]: row for row in results["rows"] if row["load"] == START}
    names = {name for row in rows for name in row["median"]} - _dull(rows)
    columns = [column for column in COLUMNS if column[0] in names]
    table = [["load", "peer", *(head for _, head, _ in columns), *(["start s", "idle RSS MiB"] if starts else [])]]
    for row in sorted(rows, key=lambda row: _order(rows, row)):
        cells = [row["load"], row["peer"]]
        for name, _, form in columns:
            value = row["median"].get(name)
            spread = _spread(row) if name == "per_s" else ""
            cells.append("" if value is None else _figure(value, form) + spread)
        if starts:
            start = starts.get(row["peer"], {"median": {}})["median"]
            is_first = row["load"] == rows[0]["load"]
            cells += [f"{start['start_s']:.1f}", f"{start['idle_rss_mib']:,.0f}"] if start and is_first else ["", ""]
        table.append(cells)
    return table


def _spread(row: dict[str, Any]) -> str:
    """The least and the greatest rate of several rounds."""
    least, greatest = (_figure(row[kind]["per_s"], ",.0f") for kind in ("least", "greatest"))
    return f" ({least}-{greatest})" if row["rounds"] > 1 else ""


def _figure(value: float, form: str) -> str:
    """Of whole numbers below ten the tenths count."""
    return format(value, ".1f" if form == ",.0f" and value < 10 else form)


def _dull(rows: Iterable[dict[str, Any]]) -> set[str]:
    """Figures that say nothing here: no errors anywhere, GB/s of small requests."""
    dull = {"foreign_share"}
    for name, least in (("errors", 0.5), ("gb_per_s", 0.2)):
        if max((row["median"].get(name, 0) for row in rows), default=0) < least:
            dull.add(name)
    return dull


def _order(rows: list[dict[str, Any]], row: dict[str, Any]) -> tuple[int, float]:
    """Loads as they came, then the fastest first."""
    loads = list(dict.fromkeys(one["load"] for one in rows))
    return loads.index(row["load"]), -row["median"].get("per_s", 0)


def margin_rows(found: Iterable[Results]) -> list[list[str]]:
    """Each margin with what it is now."""
    by_name = {results["workload"]: results for results in found}
    table = [["workload", "load", "figure", "against", "now", "gate", "goal", "met", "command"]]
    for margin in margins.MARGINS:
        results = by_name.get(margin.workload)
        value = margin.value(results) if results else None
        if results is None or value is None:
            continue
        sign = "<=" if margin.is_less_better else ">="
        against = f"{'less ' if margin.is_difference else ''}{margin.peer or margin.base_load or '-'}"
        figure = next(head for name, head, _ in COLUMNS if name == margin.figure)
        bounds = [f"{sign} {bound:g}" for bound in (margin.gate, margin.goal)]
        command = f"`{results['command']}`"
        table.append(
            [results["title"], margin.load, figure, against, f"{value:.3g}", *bounds, margin.verdict(value), command]
        )
    return table


def _machines(found: Iterable[Results]) -> str:
    """What the results were taken on, each kind once."""
    lines = dict.fromkeys(
        f"- {machine['cpus']} processors ({machine['cpu']}), {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
        f"Python {machine['python']}, {machine['nginx']}, {machine['wrk']}, {machine['h2load']}"
        for machine in (results["machine"] for results in found)
    )
    versions = sorted({f"{name} {version}" for results in found for name, version in results["versions"].items()})
    return "\n".join([*lines, f"- {', '.join(versions)}"])


def markdown(table: list[list[str]]) -> str:
    """A table, its head first."""
    head, *rows = table
    lines = [head, ["---", *("---:" if cell[:1].isdigit() else "---" for cell in (rows or [head])[0][1:])], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def aligned(table: list[list[str]]) -> str:
    """The same for a terminal."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
