"""NVIDIA Triton: the server's own binary, from PyTriton's wheel, with models of its Python backend."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from benchmarks.peers import checked_plain, oip, plates_plain
from benchmarks.peers.base import CACHE, Peer, Ports
from benchmarks.work import Answer, Inputs, Request, Work

PROGRAMS = Path(__file__).parent / "triton_models"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TENSORS = frozenset({"json", "binary", "grpc"})
SIGNATURES = {
    "echo": ("TYPE_FP32, dims: [16]", "TYPE_FP32, dims: [16]"),
    "image": ("TYPE_FP32, dims: [3, 224, 224]", "TYPE_FP32, dims: [1]"),
    "length": ("TYPE_UINT8, dims: [-1]", "TYPE_INT64, dims: [1]"),
    "steady": ("TYPE_FP32, dims: [16]", "TYPE_FP32, dims: [16]"),
    "checked": ("TYPE_FP64, dims: [8]", "TYPE_FP64, dims: [4]"),
    "plates": ("TYPE_UINT8, dims: [-1]", "TYPE_STRING, dims: [-1]"),
    "stn": ("TYPE_FP32, dims: [3, 24, 94]", "TYPE_FP32, dims: [3, 24, 94]"),
    "lprnet": ("TYPE_FP32, dims: [3, 24, 94]", "TYPE_FP32, dims: [23, 18]"),
}
"""What each model takes and gives, without the batch."""
BATCHED = frozenset({"steady", "stn", "lprnet"})
"""Models that nobody would serve without its batching, which is off by default."""
SINGLE = frozenset({"length", "plates"})
"""Models that take one request at a time: their inputs differ in size."""


class Triton(oip.OipPeer):
    """`tritonserver` with a repository of models, its defaults otherwise."""

    name = "triton"
    packages = ("nvidia-pytriton", "numpy", "onnxruntime", "opencv-python-headless<5")
    works: ClassVar[Mapping[str, frozenset[str]]] = {
        "echo": TENSORS,
        "image": TENSORS,
        "length": frozenset({"binary"}),
        "steady": TENSORS,
        "checked": TENSORS,
        "plates": frozenset({"binary"}),
    }

    @property
    def server(self) -> Path:
        """Where the wheel keeps the server."""
        return CACHE / self.name / "lib" / f"python{PYTHON}" / "site-packages" / "pytriton" / "tritonserver"

    def after_install(self) -> None:
        """The wheel has a stub for every Python; the backend looks for one, beside itself."""
        stub = "triton_python_backend_stub"
        shutil.copy2(self.server / "python_backend_stubs" / PYTHON / stub, self.server / "backends" / "python" / stub)

    def environment(self, folder: Path) -> dict[str, str]:
        """The stub links libpython, ignores PYTHONPATH, and finds the packages by the first `python3` in PATH."""
        del folder
        return {
            "LD_LIBRARY_PATH": str(Path(sys.base_prefix) / "lib"),
            "PATH": os.pathsep.join([str(self.python.parent), os.environ["PATH"]]),
        }

    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """See Peer."""
        repository = folder / "repository"
        add(repository, work.name, work.name, config(work.name, tuning))
        if work.name == "plates":
            for network in ("stn", "lprnet"):
                version = add(repository, network, "network", config(network, {}))
                shutil.copy(plates_plain.MODELS / f"{network}.onnx", version / "model.onnx")
        return [
            str(self.server / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={self.server / 'backends'}",
            f"--http-port={ports.http}",
            f"--grpc-port={ports.grpc}",
            f"--metrics-port={ports.others[0]}",
            "--exit-timeout-secs=2",  # 30 by default, spent in full after many connections
        ]

    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """See Peer."""
        return oip.request(work.name, form, np.frombuffer(inputs, np.uint8) if work.name == "plates" else inputs)

    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """See Peer."""
        if work.name == "plates":
            return list(texts(answer.body[int(answer.headers[oip.HEADER]) :]))
        return super().answer(work, form, answer)


def add(repository: Path, model: str, program: str, config: str) -> Path:
    """Add a model to the repository; the folder of its version."""
    version = repository / model / "1"
    version.mkdir(parents=True)
    shutil.copy(PROGRAMS / f"{program}.py", version / "model.py")
    for plain in (plates_plain.__file__, checked_plain.__file__):
        shutil.copy(plain, version)  # where a model finds what it imports
    (version.parent / "config.pbtxt").write_text(config)
    return version


def config(model: str, tuning: Mapping[str, Any]) -> str:
    """The configuration of a model."""
    takes, gives = SIGNATURES[model]
    lines = [
        'backend: "python"',
        f'input [{{ name: "x", data_type: {takes} }}]',
        f'output [{{ name: "y", data_type: {gives} }}]',
    ]
    if "queue" in tuning:  # the policy belongs to its batcher; batches stay off
        lines.append(f"dynamic_batching {{ default_queue_policy {{ max_queue_size: {tuning['queue']} }} }}")
    if model in BATCHED or "delay_ms" in tuning or "max_batch_size" in tuning:
        delay = f"max_queue_delay_microseconds: {round(tuning['delay_ms'] * 1000)}" if "delay_ms" in tuning else ""
        lines.append(f"dynamic_batching {{ {delay} }}")
    if model not in SINGLE:
        size = tuning.get("max_batch_size", 1 if model == "checked" else 64)  # it has no default; this is Samovar's
        lines.append(f"max_batch_size: {size}")
    if "workers" in tuning:
        lines.append(f"instance_group [{{ count: {tuning['workers']}, kind: KIND_CPU }}]")
    return "\n".join(lines)


def texts(data: bytes) -> Iterator[str]:
    """The elements of a BYTES tensor: each has its length before it, in 4 bytes."""
    start = 0
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        yield data[start + 4 : end].decode()
        start = end


PEER: Peer = Triton()
