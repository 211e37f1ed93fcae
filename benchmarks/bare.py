"""The same computation in a bare loop of one process, and what an engine adds to it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from benchmarks.load import Closed
from benchmarks.measuring import Plan, Sample, Target, measure
from benchmarks.peers.samovar import PEER, Samovar
from benchmarks.work import PLATES, Work, street
from onnx import TensorProto, helper, numpy_helper

BATCH, SIDE, CHANNELS, BLOCKS = 8, 48, 32, 3
BARE = "bare loop"


def cnn_inputs() -> np.ndarray:
    """FP32[8, 3, 48, 48]."""
    return np.random.default_rng(0).standard_normal((BATCH, 3, SIDE, SIDE)).astype(np.float32)


CNN = Work("cnn", cnn_inputs, lambda sent, got: got.shape == (len(sent), CHANNELS))


def write_cnn(path: Path) -> None:
    """Residual blocks of 3 x 3 convolutions as in ResNet (He et al., 2015), random weights, mean over the picture."""
    rng = np.random.default_rng(1)
    nodes, weights = [], []

    def convolution(source: str, target: str, channels: int) -> None:
        kernel = rng.standard_normal((CHANNELS, channels, 3, 3)).astype(np.float32) * np.sqrt(2 / 9 / channels)
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"{target}_kernel"))
        nodes.append(helper.make_node("Conv", [source, f"{target}_kernel"], [target], pads=[1, 1, 1, 1]))

    def relu(source: str, target: str) -> None:
        nodes.append(helper.make_node("Relu", [source], [target]))

    convolution("x", "stem", 3)
    relu("stem", "block0")
    for number in range(BLOCKS):
        convolution(f"block{number}", f"first{number}", CHANNELS)
        relu(f"first{number}", f"middle{number}")
        convolution(f"middle{number}", f"second{number}", CHANNELS)
        nodes.append(helper.make_node("Add", [f"second{number}", f"block{number}"], [f"sum{number}"]))
        relu(f"sum{number}", f"block{number + 1}")
    nodes.append(helper.make_node("GlobalAveragePool", [f"block{BLOCKS}"], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["output"]))
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", CHANNELS])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def compare_cnn(plan: Plan) -> list[Sample]:
    """The engine with one and with two clients that send batches of 8; onnxruntime in a loop with the same batch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cnn.onnx"
        write_cnn(path)
        samples = [_loop("cnn", path, plan)]
        request = PEER.request(CNN, "binary", cnn_inputs())
        with Samovar(path).serve(CNN, "binary", Path(folder) / "engine") as running:
            target = Target(running.url, request, running.process, len(os.sched_getaffinity(0)))
            samples += [measure(target, Closed(count), plan, "samovar") for count in (1, 2)]
    return samples


def compare_plates(plan: Plan) -> list[Sample]:
    """One client of the service, and the same pipeline without any engine."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "street.jpg"
        photo.write_bytes(street()[0])
        samples = [_loop("plates", photo, plan)]
        with PEER.serve(PLATES, "upload", Path(folder) / "engine") as running:
            request = PEER.request(PLATES, "upload", PLATES.inputs())
            target = Target(running.url, request, running.process, len(os.sched_getaffinity(0)))
            samples.append(measure(target, Closed(1), plan, "samovar"))
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
