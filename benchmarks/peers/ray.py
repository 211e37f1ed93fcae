"""Ray Serve: a local Ray with one application."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np
from benchmarks.peers import checked_plain, plates_plain
from benchmarks.peers.base import Peer, Ports
from benchmarks.work import Answer, Inputs, Request, Work, as_json

PROGRAMS = Path(__file__).parent / "ray_models"
JSON = frozenset({"json"})
DEPLOYMENT = {"workers": "num_replicas", "queue": "max_queued_requests"}
BATCHING = {"max_batch_size": "max_batch_size={}", "delay_ms": "batch_wait_timeout_s={} / 1000"}


class RayServe(Peer):
    """One replica behind Serve's own proxy, access logs included."""

    name = "ray"
    packages = ("ray[serve]", "onnxruntime", "opencv-python-headless<5")
    works: ClassVar[Mapping[str, frozenset[str]]] = {
        "echo": JSON,
        "image": JSON,
        "length": frozenset({"binary"}),
        "steady": JSON,
        "checked": JSON,
        "plates": frozenset({"upload"}),
        "shop": JSON,
    }
    start_timeout_s = 180.0  # a dozen processes, each of which imports Ray

    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """See Peer."""
        program = (PROGRAMS / f"{work.name}.py").read_text()
        for name, option in DEPLOYMENT.items():
            if name in tuning:
                program = program.replace("@serve.deployment(", f"@serve.deployment({option}={tuning[name]}, ")
        batching = ", ".join(text.format(tuning[name]) for name, text in BATCHING.items() if name in tuning)
        if batching:
            program = program.replace("@serve.batch", f"@serve.batch({batching})")
        (folder / f"{work.name}.py").write_text(program)
        shutil.copy(PROGRAMS / "run.py", folder)  # the workers import the program from where this lies
        if work.name == "checked":
            shutil.copy(checked_plain.__file__, folder)
        if work.name == "plates":
            shutil.copy(plates_plain.__file__, folder)
            for file in plates_plain.MODELS.glob("*.onnx"):
                shutil.copy(file, folder)
        deadline = [str(tuning["deadline_s"])] if "deadline_s" in tuning else []
        return [str(self.python), str(folder / "run.py"), work.name, str(ports.http), *deadline]

    def environment(self, folder: Path) -> dict[str, str]:
        """A token of its own: Ray would leave one in the home directory."""
        del folder
        return {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": uuid4().hex}

    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """See Peer."""
        del form
        if work.name == "plates":
            return Request("/", inputs, {"Content-Type": "image/jpeg"})
        if work.name == "shop":
            return Request("/total", as_json(inputs))
        if work.name == "length":
            return Request("/", inputs.tobytes(), {"Content-Type": "application/octet-stream"})
        return Request("/", as_json({"x": inputs.tolist()}))

    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """See Peer."""
        del form
        return answer.json() if work.name in {"plates", "shop"} else np.array(answer.json())


PEER: Peer = RayServe()
