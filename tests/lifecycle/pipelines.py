"""Requests to the service of apps/composed.py, and what its models noted of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from http_door import Answer, Wire
from notes import Notes
from serving import Served
from watching import eventually, metric

INVALID, RAISES, DIES, WAITS = -10.0, -20.0, -30.0, -40.0
"""First numbers of rows that something becomes of."""


@dataclass(frozen=True)
class Pipeline(Notes):
    """One request, or several that share their notes."""

    served: Served

    @classmethod
    def of(cls, served: Served, folder: Path) -> "Pipeline":
        """With notes of its own."""
        return cls(Notes.within(folder).note, served)

    def another(self) -> "Pipeline":
        """Other notes beside these."""
        return Pipeline.of(self.served, self.note.parent)

    def ask(self, method: str, *x: float, headers: Mapping[str, str] | None = None, **inputs: Any) -> Answer:
        """A whole request."""
        body = {"x": list(x), "note": str(self.note), **inputs}
        return self.served.http.post(f"/pipeline/{method}", body, **(headers or {}))

    def begin(self, wire: Wire, method: str, *x: float) -> None:
        """A request on a connection of the test's own."""
        data = json.dumps({"x": list(x), "note": str(self.note)}).encode()
        head = f"POST /pipeline/{method} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        wire.send(head.encode(), b"Content-Length: %d\r\n\r\n" % len(data), data)

    def steps(self) -> list[str]:
        """What was noted, without the processes."""
        return [line.split()[0] for line in self.notes()]

    def pid(self, step: str) -> int:
        """The process that ran a step."""
        return int(self.wait(f"{step} ").split()[1])

    def wait_idle(self) -> None:
        """Wait until nothing runs or waits anywhere."""
        names = ("samovar_in_flight", "samovar_queue_items")
        eventually(lambda: all(metric(self.served, name) == 0 for name in names), "nothing runs")
