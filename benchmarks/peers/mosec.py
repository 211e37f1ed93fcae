"""Mosec: a server in Rust, workers in Python."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from benchmarks.peers.base import Peer, Ports
from benchmarks.work import Answer, Inputs, Request, Work, as_json

PROGRAMS = Path(__file__).parent / "mosec_models"
ROOT = Path(__file__).parents[2]
BINARY = {"Content-Type": "application/octet-stream"}


class Mosec(Peer):
    """`python` of one program, as all of Mosec's are. JSON bodies are bare arrays."""

    name = "mosec"
    packages = ("mosec", "numpy", "onnxruntime", "opencv-python-headless<5")
    works: ClassVar[Mapping[str, frozenset[str]]] = {
        "echo": frozenset({"json"}),
        "image": frozenset({"json", "binary"}),
        "length": frozenset({"binary"}),
        "steady": frozenset({"json"}),
        "checked": frozenset({"json"}),
        "plates": frozenset({"upload"}),
    }

    def environment(self, folder: Path) -> dict[str, str]:
        """Where the plates find their pipeline."""
        del folder
        return {"PYTHONPATH": str(ROOT)}

    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """See Peer."""
        command = [str(self.python), str(PROGRAMS / f"{work.name}.py")]
        if work.name == "steady":
            command.append(json.dumps(options(tuning)))
        if work.name == "checked":
            command.append(str(tuning.get("workers", 1)))
            command.append(f"--timeout={round(tuning.get('deadline_s', 30) * 1000)}")  # 3 s by default; Samovar's is 30
            if "queue" in tuning:
                command.append(f"--capacity={tuning['queue']}")
        if work.name == "length":
            command.append(f"--max-request-size={1 << 30}")  # 10 MiB by default
        if work.name in {"image", "plates"}:
            command.append("--timeout=60000")  # 3 s by default: a few of them in a queue
        return [*command, f"--path={folder / 'sockets'}", f"--port={ports.http}"]

    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """See Peer."""
        if work.name == "plates":
            return Request("/inference", inputs, {"Content-Type": "image/jpeg"})
        path = f"/{form}" if work.name == "image" else "/inference"
        return Request(path, inputs.tobytes(), BINARY) if form == "binary" else Request(path, as_json(inputs.tolist()))

    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """See Peer."""
        return np.frombuffer(answer.body, np.float32) if (work.name, form) == ("image", "binary") else answer.json()


def options(tuning: Mapping[str, Any]) -> dict[str, int]:
    """What `append_worker` takes. Mosec has no batches by default; 64 is Samovar's largest, 10 ms Mosec's own delay."""
    chosen = {"max_batch_size": tuning.get("max_batch_size", 64), "num": tuning.get("workers", 1)}
    if "delay_ms" in tuning:
        chosen["max_wait_time"] = max(1, round(tuning["delay_ms"]))  # 0 would be the default
    return chosen


PEER: Peer = Mosec()
