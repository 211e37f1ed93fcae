"""Charts of results: bars of rates for each load, lines over a set rate, lines over what grows."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from benchmarks.measuring import START

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "samovar"  # the same figures give the same file

import matplotlib.pyplot as plt  # noqa: E402 - after the choice of the backend
from matplotlib.axes import Axes  # noqa: E402

Rows = list[dict[str, Any]]

INK, GRID = "#333333", "#dddddd"
COLORS = {
    "samovar": "#c0392b",
    "triton": "#4f7942",
    "nginx": "#888888",
    "bare loop": "#888888",
    "uvicorn": "#888888",
    "mosec": "#3b6ea5",
    "litserve": "#8e6bbf",
    "bentoml": "#d98e2b",
    "ray_serve": "#2a9d8f",
    "torchserve": "#8c564b",
}
OTHER = "#aaaaaa"


def draw(results: dict[str, Any], path: Path) -> None:
    """One picture for a workload."""
    rows = [row for row in results["rows"] if row["load"] != START]
    closed = [row for row in rows if not row["load"].endswith("/s")]
    opened = [row for row in rows if row["load"].endswith("/s")]
    parts = [part for part in (closed, opened) if part]
    figure, axes = plt.subplots(1, len(parts), figsize=(6.4 * len(parts), 3.8), squeeze=False)
    for part, place in zip(parts, axes[0], strict=True):
        if part is opened:
            _lines(place, part)
        else:
            _bars(place, part)
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(colors=INK, length=0)
    figure.suptitle(results["title"], color=INK, fontsize=11)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _bars(axes: Axes, rows: Rows) -> None:
    """Groups of bars, one group for each load, with least and greatest as whiskers."""
    figure = next(
        name
        for name in ("per_s", "copies", "hop_us", "kib_per_connection", "p50_ms", "engine_rss_mib")
        if _has(rows, name)
    )
    rows = [row for row in rows if figure in row["median"] and " (" not in row["peer"]]
    loads = list(dict.fromkeys(row["load"] for row in rows))
    peers = list(dict.fromkeys(sorted((row["peer"] for row in rows), key=lambda name: list(COLORS).index(name))))
    width = 0.85 / len(peers)
    for number, peer in enumerate(peers):
        mine = {row["load"]: row for row in rows if row["peer"] == peer}
        places = [loads.index(load) + (number - (len(peers) - 1) / 2) * width for load in mine]
        heights = [row["median"][figure] for row in mine.values()]
        spread = [
            [row["median"][figure] - row["least"][figure] for row in mine.values()],
            [row["greatest"][figure] - row["median"][figure] for row in mine.values()],
        ]
        axes.bar(places, heights, width * 0.92, color=COLORS[peer], label=peer, yerr=spread, ecolor=INK, capsize=1.5)
    heights = [row["median"][figure] for row in rows if row["median"][figure] > 0]
    if heights and max(heights) > 30 * min(heights):
        axes.set_yscale("log")
    axes.set_xticks(range(len(loads)), loads)
    axes.set_ylabel({"per_s": "per second"}.get(figure, figure.replace("_", " ")), color=INK)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    if len(peers) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=2)


def _lines(axes: Axes, rows: Rows) -> None:
    """The 99th percentile over the rate that was asked for."""
    for peer in dict.fromkeys(row["peer"] for row in rows):
        mine = [row for row in rows if row["peer"] == peer]
        rates = [int(row["load"].removesuffix("/s").replace(",", "")) for row in mine]
        axes.plot(rates, [row["median"]["p99_ms"] for row in mine], "o-", color=COLORS.get(peer, OTHER), label=peer)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("requests per second, open loop", color=INK)
    axes.set_ylabel("p99 ms", color=INK)
    axes.grid(color=GRID)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def _has(rows: Rows, figure: str) -> bool:
    return any(figure in row["median"] for row in rows)
