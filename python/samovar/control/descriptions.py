"""Descriptions of targets, each made by a fresh worker while a thread waits for it."""

import json
import queue
import threading
from dataclasses import dataclass
from typing import Any

from samovar.control.engine import Engine
from samovar.repository.targets import Target

__all__ = ["Description", "Descriptions"]


@dataclass(frozen=True)
class Description:
    """What a worker found at a target: `models`, and `probe` to make it instance 0 of one of them; else the `cause`."""

    target: Target
    models: list[dict[str, Any]]
    probe: int | None = None
    cause: dict[str, Any] | None = None


class Descriptions:
    """Descriptions under way; at most `at_once` workers start at a time."""

    def __init__(self, engine: Engine, at_once: int) -> None:
        self._engine = engine
        self._slots = threading.Semaphore(at_once)
        self._done: queue.SimpleQueue[tuple[Description, object]] = queue.SimpleQueue()
        self._under_way = 0

    @property
    def under_way(self) -> int:
        """How many have been asked for and not taken."""
        return self._under_way

    def ask(self, target: Target, name: str | None, purpose: object) -> None:
        """Have the class `name` of `target`, or all of it, described."""
        self._under_way += 1
        threading.Thread(target=self._describe, args=(target, name, purpose), daemon=True).start()

    def take(self) -> tuple[Description, object] | None:
        """The next finished description with its purpose, or None."""
        try:
            done = self._done.get_nowait()
        except queue.Empty:
            return None
        self._under_way -= 1
        return done

    def _describe(self, target: Target, name: str | None, purpose: object) -> None:
        try:
            with self._slots:
                answer = json.loads(self._engine.probe(json.dumps(target.question(name))))
            description = (
                Description(target, answer["body"]["models"], probe=answer["probe"])
                if answer["ok"]
                else Description(target, [], cause=answer["cause"])
            )
        except Exception as error:  # noqa: BLE001 - a thread that ends without an answer would hang the start
            description = Description(target, [], cause={"message": f"the target could not be described: {error}"})
        self._done.put((description, purpose))
