"""Bare FastAPI under uvicorn at its fastest: uvloop, httptools, no access log."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import Peer, Ports
from benchmarks.work import Answer, Inputs, Request, Work, as_json

PROGRAMS = Path(__file__).parent / "uvicorn_models"


class Uvicorn(Peer):
    """One worker process."""

    name = "uvicorn"
    works: ClassVar[Mapping[str, frozenset[str]]] = {"shop": frozenset({"json"})}

    def command(self, work: Work, folder: Path, ports: Ports, tuning: Mapping[str, Any]) -> list[str]:
        """See Peer."""
        del folder, tuning
        command = [sys.executable, "-m", "uvicorn", f"{work.name}:app", "--app-dir", str(PROGRAMS)]
        command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        return [*command, "--port", str(ports.http)]

    def request(self, work: Work, form: str, inputs: Inputs) -> Request:
        """See Peer."""
        del form
        return Request(f"/{work.name}/total", as_json(inputs))

    def answer(self, work: Work, form: str, answer: Answer) -> Any:
        """See Peer."""
        del work, form
        return answer.json()


PEER: Peer = Uvicorn()
