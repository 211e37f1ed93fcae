"""What it costs a model to call another one: a call with one step in it, against the call without."""

import statistics
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.measuring import OURS, Plan, Sample
from benchmarks.peers.samovar import MODELS, Samovar
from benchmarks.work import Work

from samovar.client import Client

SIZES = {"1 KiB": 1 << 10, "1 MiB": 1 << 20, "10 MiB": 10 << 20}
STEPPING = Work("stepping", lambda: np.zeros(4, np.float32), lambda _, got: np.size(got) == 1)
WARM_UP = 2


def measure(plan: Plan) -> list[Sample]:
    """For each size of tensor, the median time that a caller spends in a step, of 20 in a row."""
    samples = []
    peer = Samovar(MODELS / "stepping.py")
    with (
        tempfile.TemporaryDirectory() as folder,
        peer.serve(STEPPING, "json", Path(folder)) as running,
        Client(running.url("json")) as client,
    ):
        for label, size in SIZES.items():
            tensor = np.zeros(size // 4, np.float32)
            calls = max(3, round(10 * plan.seconds))
            found = [client.infer("stepping", {"x": tensor})["output"][0] for _ in range(WARM_UP + calls)]
            hop_us = statistics.median(found[WARM_UP:]) * 1e6
            samples.append(Sample(label, OURS, {"hop_us": round(float(hop_us), 1)}))
    return samples
