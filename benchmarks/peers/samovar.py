"""Samovar itself, with its defaults, access log included."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers import checked_plain
from benchmarks.peers.base import Ports
from benchmarks.peers.oip import OipPeer
from benchmarks.work import Answer, Inputs, Request, Work, as_json

HERE = Path(__file__).parent
MODELS = HERE / "samovar_models"
OPTIONS = {
    "max_batch_size": "max_batch_size",
    "delay_ms": "max_queue_delay_ms",
    "workers": "instances",
    "queue": "max_queue_items",
}
TENSORS = frozenset({"json", "binary", "grpc"})


class Samovar(OipPeer):
    """`samovar serve` of the model of the work, or of `target`, with these options."""

    name = "samovar"
    works: ClassVar[Mapping[str, frozenset[str]]] = {
        "echo": TENSORS,
        "image": TENSORS,
        "length": frozenset({"binary"}),
        "steady": TENSORS,
        "checked": TENSORS,
        "plates": frozenset({"upload"}),
        "shop": frozenset({"json"}),
    }

    def __init__(self, target: Path | None = None, *options: str) -> None:
        self.target = target
        self.options = options

    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """See Peer."""
        target = self.target or MODELS / f"{work.name}.py"
        if work.name == "plates":
            target = HERE.parents[1] / "examples" / "plates" / "plates.py"
        if work.name == "steady" and tuning:
            target = decorated(target, folder, {OPTIONS[name]: value for name, value in tuning.items()})
        if work.name == "checked" and self.target is None:
            options = {OPTIONS[name]: value for name, value in tuning.items() if name in OPTIONS}
            target = decorated(target, folder, {"max_batch_size": 1, **options})
            shutil.copy(checked_plain.__file__, folder)
        command = [sys.executable, "-m", "samovar", "serve", str(target)]
        return [*command, "--http-port", str(ports.http), "--grpc-port", str(ports.grpc), *self.options]

    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """See Peer."""
        if work.name == "plates":
            return Request("/plates/recognize", inputs, {"Content-Type": "image/jpeg"})
        if work.name == "shop":
            return Request("/shop/total", as_json(inputs))
        return super().request(work, form, inputs)

    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """See Peer."""
        if work.name == "plates":
            return [plate["text"] for plate in answer.json()]
        return answer.json() if work.name == "shop" else super().answer(work, form, answer)


def decorated(target: Path, folder: Path, options: Mapping[str, Any]) -> Path:
    """A copy of the model, with these options in its decorator."""
    listed = ", ".join(f"{name}={value!r}" for name, value in options.items())
    copy = folder / target.name
    copy.write_text(target.read_text().replace("@samovar.model", f"@samovar.model({listed})"))
    return copy


PEER = Samovar()
