"""What the control plane needs of `samovar._core.Engine`, so that tests can stand in for the data plane."""

import json
from typing import Any, Protocol

from samovar.repository.sources import Key

__all__ = ["ENDED", "Engine", "states_of", "versions_of"]

ENDED = ("failed", "unloaded")


class Engine(Protocol):
    """The data plane; see `samovar._core.Engine`. Every text is JSON unless said otherwise."""

    def addresses(self) -> str:
        """Where the doors are."""

    def probe(self, request: str, is_passing: bool) -> int:
        """Let a worker describe a target; the answer is an event. One that `is_passing` becomes no instance."""

    def discard(self, probe: int) -> None:
        """End a probed worker that no version took."""

    def deploy(self, spec: str) -> int:
        """Load a version; the serial of its events. Raises ValueError where `spec` does not fit."""

    def declare_failed(self, name: str, version: str, cause: str) -> None:
        """List a model that could not be described."""

    def retire(self, name: str, version: str) -> bool:
        """Drain and unload a version; False if there is none."""

    def versions(self) -> str:
        """State of every version."""

    def next_event(self, timeout_s: float | None) -> str | None:
        """Wait for something that needs a decision."""

    def reply(self, ticket: int, error: str | None) -> None:
        """End a load or unload that a client asked for; `error` has `code` and `message`."""

    def mark_started(self) -> None:
        """The loads of the start have ended."""

    def stop(self) -> None:
        """Drain and end everything."""

    def log(self, level: str, message: str, fields: str) -> None:
        """Write a line to the engine's log; level and message are plain texts."""


def versions_of(engine: Engine) -> list[dict[str, Any]]:
    """Every version with its state."""
    versions: list[dict[str, Any]] = json.loads(engine.versions())
    return versions


def states_of(engine: Engine) -> dict[Key, str]:
    """The state of every version."""
    return {(version["name"], version["version"]): version["state"] for version in versions_of(engine)}
