"""What bad input must leave as it was: worker processes, descriptors, memory, and a neighbour's requests."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from http_door import json_tensor
from serving import Served
from watching import descriptors, eventually, resident_kib

NEIGHBOURS = ("neighbour", "onnx_neighbour")
"""Models that only the neighbour calls."""
MAX_BODY_BYTES = 32 << 20
"""Of the engine for bad input: a quarter of the default, because tests fill it often."""
GROWTH_KIB = 32 * 1024
"""24 MiB of freed memory stay in an arena (crates/server/src/memory.rs), whichever thread read the last large body."""
X = np.array([[1, 2, 3]], np.float32)


@dataclass(frozen=True)
class State:
    """An engine from outside."""

    workers: list[int]
    descriptors: dict[int, int]
    resident_kib: int

    @classmethod
    def of(cls, served: Served) -> Self:
        """What it is now."""
        workers = sorted(served.workers())
        return cls(workers, {pid: descriptors(pid) for pid in (served.pid, *workers)}, resident_kib(served.pid))

    def is_as(self, before: "State") -> bool:
        """No process but those before, no descriptor more than before, hardly more memory."""
        return (
            self.workers == before.workers
            and all(count <= before.descriptors[pid] for pid, count in self.descriptors.items())
            and self.resident_kib <= before.resident_kib + GROWTH_KIB
        )


@dataclass
class Neighbour:
    """Somebody whose requests are good, one after another on a connection of their own, until told to stop."""

    served: Served
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask each model of NEIGHBOURS in turn."""
        http = self.served.http
        body = json.dumps({"inputs": [json_tensor("x", X)]}).encode()
        connection = http.connect()
        try:
            while not self._stop.is_set():
                for model in NEIGHBOURS:
                    answer = http.request("POST", f"/v2/models/{model}/infer", body, connection=connection)
                    if (answer.arrays()["output"] != X * 2).any():
                        self.failures.append(f"{model}: {answer.body!r}")
                    self.answered += 1
        except Exception as error:  # noqa: BLE001 - whatever happened to it is the finding
            self.failures.append(repr(error))
        finally:
            connection.close()

    def stop(self) -> None:
        """After the request that is on its way."""
        self._stop.set()


@contextmanager
def unharmed(served: Served) -> Iterator[None]:
    """Whatever happens inside: the same processes, descriptors and memory afterwards, and a neighbour sees nothing."""
    for model in NEIGHBOURS:  # the first answer of a worker brings memory, which has a descriptor of its own
        assert served.http.infer(model, {"x": X}).status == 200
    before = State.of(served)
    neighbour = Neighbour(served)
    thread = threading.Thread(target=neighbour.run)
    thread.start()
    try:
        eventually(lambda: neighbour.answered or neighbour.failures, "the neighbour is served")
        yield
        seen = neighbour.answered
        eventually(lambda: neighbour.answered > seen or neighbour.failures, "the neighbour is still served")
    finally:
        neighbour.stop()
        thread.join()
    assert not neighbour.failures
    assert served.http.get("/v2/health/live").status == 200
    after = before

    def is_as_before() -> bool:
        nonlocal after
        after = State.of(served)
        return after.is_as(before)

    try:
        eventually(is_as_before, "everything is as before", timeout_s=10)
    except AssertionError:
        raise AssertionError(f"before: {before}\nafter:  {after}") from None
    for pid in (served.pid, *after.workers):
        assert "/dev/shm" not in Path(f"/proc/{pid}/maps").read_text()
