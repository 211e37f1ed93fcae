"""LitServe: FastAPI in front of worker processes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import Peer, Ports
from benchmarks.work import Answer, Inputs, Request, Work, as_json

PROGRAMS = Path(__file__).parent / "litserve_models"


class LitServe(Peer):
    """`python` of one program, as all of LitServe's are."""

    name = "litserve"
    packages = ("litserve", "numpy")
    works: ClassVar[Mapping[str, frozenset[str]]] = {
        "echo": frozenset({"json"}),
        "image": frozenset({"json"}),
        "length": frozenset({"binary"}),
        "steady": frozenset({"json"}),
    }

    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """See Peer."""
        del folder
        command = [str(self.python), str(PROGRAMS / f"{work.name}.py"), str(ports.http)]
        if work.name == "steady":
            command += [json.dumps(batching(tuning)), json.dumps(serving(tuning))]
        return command

    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """See Peer."""
        del work
        if form == "binary":
            return Request("/predict", inputs.tobytes(), {"Content-Type": "application/octet-stream"})
        return Request("/predict", as_json({"x": inputs.tolist()}))

    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """See Peer."""
        del work, form
        return answer.json()["y"]


def batching(tuning: Mapping[str, Any]) -> dict[str, Any]:
    """What the LitAPI takes. By default none are batched; 64 is Samovar's size, and to wait for none LitServe's own."""
    chosen = {"max_batch_size": tuning.get("max_batch_size", 64)}
    if "delay_ms" in tuning:
        chosen["batch_timeout"] = tuning["delay_ms"] / 1000
    return chosen


def serving(tuning: Mapping[str, Any]) -> dict[str, Any]:
    """What the LitServer takes: by hand also the queue that its documentation advises above 100 requests/s."""
    return {"workers_per_device": tuning.get("workers", 1), "fast_queue": bool(tuning)}


PEER: Peer = LitServe()
