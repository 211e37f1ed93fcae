"""What it costs a model to call another one: a call with one step in it, against the call without."""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.comparison import Plan, line
from scripts.serving_process import engine

from samovar.client import Client

HERE = Path(__file__).parent
SIZES = (1 << 10, 1 << 20, 10 << 20)
CALLS = 40


def hops(plan: Plan) -> list[dict[str, Any]]:
    """For each size of tensor, the median time inside a caller that makes 20 steps in a row, by step."""
    rows = []
    with engine(HERE / "stepping.py") as served, Client(served.url) as client:
        for size in SIZES:
            tensor = np.zeros(size // 4, np.float32)
            found = [client.infer("stepping", {"x": tensor})["output"][0] for _ in range(CALLS * plan.rounds // 3)]
            rows.append({"bytes": size, "hop_us": round(float(statistics.median(found[2:])) * 1e6, 1)})
            time.sleep(0.1)  # the next size finds an idle engine
    return rows


def hops_table(rows: list[dict[str, Any]]) -> str:
    """What people read."""
    head = ["bytes", "hop us"]
    lines = ["one step: model -> engine -> model and back, tensor there, 4 bytes back (medians)", line(head)]
    return "\n".join([*lines, *(line([f"{row['bytes']:,}", f"{row['hop_us']:,.0f}"]) for row in rows)])
