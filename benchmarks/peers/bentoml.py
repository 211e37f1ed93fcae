"""BentoML: one service a program, `bentoml serve`."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from benchmarks.peers import plates_plain
from benchmarks.peers.base import Peer, Ports
from benchmarks.work import Answer, Inputs, Request, Work, as_json

PROGRAMS = Path(__file__).parent / "bentoml_models"
JSON = frozenset({"json"})


class BentoMl(Peer):
    """BentoML with its defaults, access log included.

    `tuning` takes `max_batch_size`, `max_latency_ms` (the longest that a request may take, not how long it may wait for
    others: BentoML learns that) and `workers`.
    """

    name = "bentoml"
    packages = ("bentoml", "onnxruntime", "opencv-python-headless<5")
    works: ClassVar[Mapping[str, frozenset[str]]] = {
        "echo": JSON,
        "image": JSON,
        "length": frozenset({"binary"}),  # the body as it is; tensors come in as JSON alone
        "steady": JSON,
        "plates": frozenset({"upload"}),
        "shop": JSON,
    }

    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """See Peer."""
        program = (PROGRAMS / f"{work.name}.py").read_text()
        options = dict(tuning)
        if "workers" in options:
            program = program.replace("@bentoml.service", f"@bentoml.service(workers={options.pop('workers')})")
        batching = "".join(f", {name}={value}" for name, value in options.items())
        program = program.replace("batchable=True", f"batchable=True{batching}")
        (folder / f"{work.name}.py").write_text(program)
        if work.name == "plates":
            shutil.copy(plates_plain.__file__, folder)
            for file in plates_plain.MODELS.glob("*.onnx"):
                shutil.copy(file, folder)
        target = f"{work.name}:{work.name.capitalize()}"
        bentoml = str(self.python.parent / "bentoml")
        return [bentoml, "serve", target, "--host", "127.0.0.1", "--port", str(ports.http)]

    def environment(self, folder: Path) -> dict[str, str]:
        """See Peer."""
        return {"BENTOML_DO_NOT_TRACK": "1", "BENTOML_HOME": str(folder / "bentoml_home")}

    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """See Peer."""
        del form
        if work.name == "plates":
            return Request("/recognize", inputs, {"Content-Type": "image/jpeg"})
        if work.name == "shop":
            return Request("/total", as_json(inputs))
        if work.name == "length":
            return Request("/predict", inputs.tobytes(), {"Content-Type": "application/octet-stream"})
        return Request("/predict", as_json({"x": inputs.tolist()}))

    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """See Peer."""
        del form
        return answer.json() if work.name in {"plates", "shop"} else np.array(answer.json())


PEER: Peer = BentoMl()
