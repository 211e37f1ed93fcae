"""What the control plane tells: progress, the ready file, what is served, what failed."""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from samovar.config import ServerConfig
from samovar.control.console import Style, is_terminal, say
from samovar.control.engine import Engine
from samovar.control.introduction import Introduction, failure_lines
from samovar.control.loads import Fault
from samovar.control.progress import Progress
from samovar.control.ready_file import ReadyFile
from samovar.control.service_manager import ServiceManager
from samovar.repository.sources import Key

__all__ = ["Report"]


class Report:
    """Where the control plane's news go; `listener` gets the content of the ready file too."""

    def __init__(
        self, engine: Engine, settings: ServerConfig, listener: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._listener = listener
        self._specifications: dict[Key, dict[str, Any]] = {}
        self._seconds: dict[Key, float] = {}
        self._is_starting = True
        # Of the log, only the lines for people make room for what is drawn on the terminal.
        self._is_drawn = is_terminal() and settings.log_format != "json"
        self._progress = Progress(is_shown=self._is_drawn)
        self._ready_file = ReadyFile(settings.ready_file)
        self._manager = ServiceManager()

    @property
    def wait_s(self) -> float | None:
        """How long the engine's events may be awaited before `tick` is due."""
        return self._progress.wait_s

    def tick(self) -> None:
        """Draw the progress of the start anew."""
        self._progress.draw()

    def starting(self) -> None:
        """Nothing is loaded yet: whoever waits for the ready file must not find that of an earlier engine."""
        self._ready_file.clear()

    def stopping(self) -> None:
        """The engine does not serve, or not for long."""
        self._ready_file.withdraw()
        self._manager.tell("STOPPING=1")

    def ending(self) -> None:
        """Nothing more is drawn."""
        self._progress.clear()

    def asking(self, key: Key) -> None:
        """A worker is asked what a source has; `key` is what it is called until it has answered."""
        if self._is_starting:
            self._progress.begin(_label(key))

    def described(self, key: Key, models: Sequence[Key]) -> None:
        """The worker has answered: these are loaded when it is their turn."""
        self._progress.split(_label(key), map(_label, models))

    def working(self, key: Key) -> None:
        """It is the turn of a version."""
        self._progress.work(_label(key))

    def loading(self, specification: dict[str, Any]) -> None:
        """A load is to begin."""
        key = (specification["name"], specification["version"])
        self._specifications[key] = specification

    def loaded(self, key: Key) -> None:
        """A load has ended, well or not."""
        seconds = self._progress.end(_label(key))
        if seconds is not None:
            self._seconds[key] = seconds

    def remark(self, text: str) -> None:
        """Something beside a model that whoever put it there may expect to be read."""
        self._engine.log("warning", text, "{}")

    def failed(self, source: str, key: Key, cause: dict[str, Any]) -> None:
        """A source cannot be served; at a start, the words at its end tell that to people."""
        self._progress.end(_label(key))
        if not (self._is_starting and self._is_drawn):
            self._engine.log("error", f"{source} cannot be served", json.dumps({"target": source, **cause}))

    def started(
        self, addresses: dict[str, Any], versions: Sequence[dict[str, Any]], unlisted: Sequence[Fault] = ()
    ) -> None:
        """The loads of the start have ended: write the ready file, say what is served and how to call it.

        `unlisted` are sources that failed and stand under no name, because a model has theirs.
        """
        self._is_starting = False
        self._progress.clear()
        keys = ("name", "version", "state", "cause")
        document = {
            "pid": os.getpid(),
            "ports": {"http": addresses["http"]["port"], "grpc": (addresses.get("grpc") or {}).get("port")},
            "admin": addresses.get("admin"),
            "models": [{key: version[key] for key in keys} for version in versions],
        }
        self._write_ready_file(document)
        if self._listener is not None:
            self._listener({**document, "addresses": addresses})
        told = (self._settings, addresses, versions, unlisted, self._specifications, self._seconds)
        for line in Introduction(*told, Style.of("stdout")).lines():
            say(line)

    def serves(self, versions: Sequence[dict[str, Any]]) -> None:
        """Requests are answered from now on."""
        ready = sum(version["state"] == "ready" for version in versions)
        self._manager.tell("READY=1", f"STATUS=serves {ready} of {len(versions)} models")

    def nothing_serves(self, faults: Sequence[Fault]) -> None:
        """No target could be loaded."""
        say("samovar: no target could be loaded:", error=True)
        for where, cause in faults:
            for line in failure_lines(where, cause, Style.of("stderr")):
                say(line, error=True)

    def _write_ready_file(self, document: dict[str, Any]) -> None:
        try:
            self._ready_file.write(document)
        except OSError as error:  # it could be written before the loads: the models serve all the same
            fields = {"ready_file": self._settings.ready_file, "cause": str(error)}
            self._engine.log("error", "the ready file cannot be written", json.dumps(fields))


def _label(key: Key) -> str:
    """A version in the line of progress."""
    name, version = key
    return name if version == "1" else f"{name} {version}"
