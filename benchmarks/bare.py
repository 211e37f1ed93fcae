"""The same computation in a bare loop of one process, and what an engine adds to it."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.load import Closed
from benchmarks.measuring import OURS, Plan, Sample, Target, measure
from benchmarks.networks import write_cnn
from benchmarks.peers.samovar import PEER, Samovar
from benchmarks.work import PLATES, Work, street

BATCH, SIDE, CHANNELS, BLOCKS = 8, 48, 32, 3
BARE = "bare loop"


def cnn_inputs() -> np.ndarray:
    """FP32[8, 3, 48, 48]."""
    return np.random.default_rng(0).standard_normal((BATCH, 3, SIDE, SIDE)).astype(np.float32)


CNN = Work("cnn", cnn_inputs, lambda sent, got: got.shape == (len(sent), CHANNELS))


def compare_cnn(plan: Plan) -> list[Sample]:
    """The engine with one and with two clients that send batches of 8; onnxruntime in a loop with the same batch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cnn.onnx"
        write_cnn(path, CHANNELS, BLOCKS, SIDE)
        samples = [_loop("cnn", path, plan)]
        request = PEER.request(CNN, "binary", cnn_inputs())
        with Samovar(path).serve(CNN, "binary", Path(folder) / "engine") as running:
            target = Target(running, request, "binary")
            samples += [measure(target, Closed(count), plan, OURS) for count in (1, 2)]
    return samples


def compare_plates(plan: Plan) -> list[Sample]:
    """One client of the service, and the same pipeline without any engine."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "street.jpg"
        photo.write_bytes(street()[0])
        samples = [_loop("plates", photo, plan)]
        with PEER.serve(PLATES, "upload", Path(folder) / "engine") as running:
            request = PEER.request(PLATES, "upload", PLATES.inputs())
            target = Target(running, request, "upload")
            samples.append(measure(target, Closed(1), plan, OURS))
    return samples


def _loop(kind: str, path: Path, plan: Plan) -> Sample:
    """Run this module as a process of its own, so that it is as fresh as a worker."""
    command = [sys.executable, "-m", "benchmarks.bare", kind, str(path), str(plan.seconds), str(plan.warm_up_s)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return Sample("c=1", BARE, json.loads(run.stdout))


def _main() -> None:
    kind, path, seconds, warm_up_s = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    if kind == "cnn":
        import onnxruntime

        session, inputs = onnxruntime.InferenceSession(path), cnn_inputs()

        def once() -> None:
            session.run(None, {"x": inputs})

    else:
        from benchmarks.peers import plates_plain

        pipeline = plates_plain.Pipeline(Path(__file__).parents[1] / "examples" / "plates")
        photo = path.read_bytes()

        def once() -> None:
            pipeline.recognize(photo)

    times: list[float] = []
    end_of_warm_up = time.perf_counter() + warm_up_s
    while True:
        began = time.perf_counter()
        once()
        if began >= end_of_warm_up:
            times.append(time.perf_counter() - began)
            if time.perf_counter() > end_of_warm_up + seconds:
                break
    milliseconds = np.array(times) * 1e3
    figures = {"per_s": len(times) / sum(times)}
    for name, share in (("p50_ms", 50), ("p90_ms", 90), ("p99_ms", 99), ("p999_ms", 99.9)):
        figures[name] = float(np.percentile(milliseconds, share))
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    _main()
