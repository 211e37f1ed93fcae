"""TorchServe: its Java front end, with one archive and one worker in Python."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from benchmarks.peers import checked_plain, plates_plain
from benchmarks.peers.base import Peer, Ports
from benchmarks.work import Answer, Inputs, Request, Work, as_json

PROGRAMS = Path(__file__).parent / "torchserve_models"
LOCK = Path(__file__).parents[2] / "constraints" / "torch.txt"
TORCH = next(line for line in LOCK.read_text().splitlines() if line.startswith("torch=="))
JSON = frozenset({"json"})


class TorchServe(Peer):
    """TorchServe with its defaults, except that no token is asked for, and what `properties` says."""

    name = "torchserve"
    # Its workers import torch and yaml, whatever they serve; the package asks for neither.
    packages = ("torchserve", "torch-model-archiver", TORCH, "pyyaml", "onnxruntime", "opencv-python-headless<5")
    works: ClassVar[Mapping[str, frozenset[str]]] = {
        "echo": JSON,
        "image": JSON,
        "length": frozenset({"binary"}),
        "steady": JSON,
        "checked": JSON,
        "plates": frozenset({"upload"}),
    }
    start_timeout_s = 180.0  # a worker imports torch

    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """See Peer."""
        if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
            raise SystemExit("TorchServe needs Java 17, and there is no java; `apt install openjdk-17-jre-headless`")
        self._archive(work, folder, tuning)
        settings = folder / "config.properties"
        settings.write_text(properties(work, ports, tuning.get("queue", 10_000)))
        command = [str(self.python.parent / "torchserve"), "--start", "--foreground", "--ncs", "--disable-token-auth"]
        return [*command, "--model-store", str(folder / "model_store"), "--ts-config", str(settings)]

    def _archive(self, work: Work, folder: Path, tuning: Mapping[str, Any]) -> None:
        store, options = folder / "model_store", folder / "model-config.yaml"
        store.mkdir()
        workers = tuning.get("workers", 1)  # as many as cores by default
        lines = [f"minWorkers: {workers}", f"maxWorkers: {workers}"]
        if work.name == "steady":
            lines.append(f"batchSize: {tuning.get('max_batch_size', 64)}")  # 1 by default; 64 is Samovar's
        if "delay_ms" in tuning:
            lines.append(f"maxBatchDelay: {max(1, tuning['delay_ms'])}")  # 0 is taken for the default, 100
        if "deadline_s" in tuning:
            lines.append(f"responseTimeout: {tuning['deadline_s']}")
        options.write_text("\n".join(lines))
        files: list[Any] = [checked_plain.__file__] if work.name == "checked" else []
        files += [plates_plain.__file__, *plates_plain.MODELS.glob("*.onnx")] if work.name == "plates" else []
        arguments = {
            "model-name": work.name,
            "version": "1.0",
            "handler": PROGRAMS / f"{work.name}.py",
            "config-file": options,
            "extra-files": ",".join(map(str, files)),
            "export-path": store,
        }
        archiver = str(self.python.parent / "torch-model-archiver")
        subprocess.run([archiver, *(f"--{name}={value}" for name, value in arguments.items())], check=True)

    def environment(self, folder: Path) -> dict[str, str]:
        """Where its logs, sockets and unpacked archives go, and the file by which it finds one that runs already."""
        return {
            "LOG_LOCATION": str(folder / "logs"),
            "METRICS_LOCATION": str(folder / "logs"),
            "TEMP": str(folder),
            "TMPDIR": str(folder),
        }

    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """See Peer."""
        del form
        path = f"/predictions/{work.name}"
        if work.name == "plates":
            return Request(path, inputs, {"Content-Type": "image/jpeg"})
        if work.name == "length":
            return Request(path, inputs.tobytes(), {"Content-Type": "application/octet-stream"})
        return Request(path, as_json({"x": inputs.tolist()}))

    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """See Peer."""
        del form
        return answer.json() if work.name == "plates" else np.array(answer.json())


def properties(work: Work, ports: Ports, queue: int) -> str:
    """Its config.properties."""
    settings = {
        "inference_address": f"http://127.0.0.1:{ports.http}",
        "management_address": f"http://127.0.0.1:{ports.others[0]}",
        "metrics_address": f"http://127.0.0.1:{ports.others[1]}",
        "grpc_inference_port": ports.grpc,
        "grpc_management_port": ports.others[2],
        "load_models": f"{work.name}.mar",
        "job_queue_size": queue,  # 100 by default: it would refuse some of 128 connections
        "max_request_size": 1 << 28,  # 6.5 MB by default
    }
    return "\n".join(f"{name}={value}" for name, value in settings.items())


PEER: Peer = TorchServe()
