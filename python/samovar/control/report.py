"""What a start tells: progress, the ready file, what is served and how to call it."""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from samovar.config import ServerConfig
from samovar.control.console import is_terminal, say
from samovar.control.engine import Engine
from samovar.control.example import curl_line
from samovar.control.loads import Fault, cause_text
from samovar.control.ready_file import ReadyFile
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
        self._is_terminal = is_terminal()
        self._ready_file = ReadyFile(settings.ready_file)

    def starting(self) -> None:
        """Nothing is loaded yet: whoever waits for the ready file must not find that of an earlier engine."""
        self._ready_file.clear()

    def stopping(self) -> None:
        """The engine does not serve, or not for long."""
        self._ready_file.withdraw()

    def loading(self, specification: dict[str, Any], number: int, total: int) -> None:
        """A load begins."""
        name, version = specification["name"], specification["version"]
        self._specifications[name, version] = specification
        if self._is_terminal:
            say(f"loading {name} ({number}/{total}) ...", error=True)
        else:
            self._engine.log("info", "loading", json.dumps({"model": name, "version": version}))

    def remark(self, text: str) -> None:
        """Something beside a model that whoever put it there may expect to be read."""
        self._engine.log("warning", text, "{}")

    def failed(self, target: str, cause: dict[str, Any]) -> None:
        """A target cannot be served."""
        self._engine.log("error", f"{target} cannot be served", json.dumps({"target": target, **cause}))

    def started(
        self, addresses: dict[str, Any], versions: Sequence[dict[str, Any]], unlisted: Sequence[Fault] = ()
    ) -> None:
        """The loads of the start have ended: write the ready file, say what is served and how to call it.

        `unlisted` are targets that failed and stand under no name, because a model has theirs.
        """
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
        for line in self._introduction(addresses["http"], versions, unlisted):
            say(line)

    def nothing_serves(self, faults: Sequence[str]) -> None:
        """No target could be loaded."""
        say("samovar: no target could be loaded:", error=True)
        for fault in faults:
            say(f"  {fault}", error=True)

    def _write_ready_file(self, document: dict[str, Any]) -> None:
        try:
            self._ready_file.write(document)
        except OSError as error:  # it could be written before the loads: the models serve all the same
            fields = {"ready_file": self._settings.ready_file, "cause": str(error)}
            self._engine.log("error", "the ready file cannot be written", json.dumps(fields))

    def _introduction(
        self, http: dict[str, Any], versions: Sequence[dict[str, Any]], unlisted: Sequence[Fault]
    ) -> list[str]:
        serving = [version for version in versions if version["state"] != "failed"]
        if not serving and versions:
            return []
        place = f"unix:{http['path']}" if http["path"] is not None else url(http)
        lines = [f"samovar serves {len(serving)} of {len(versions) + len(unlisted)} models at {place}"]
        lines += [f"  {version['name']} (version {version['version']}) {self._state(version)}" for version in versions]
        lines += [f"  {target} failed: {cause_text(cause)}" for target, cause in unlisted]
        if not self._settings.is_loopback:
            extent = "call, load and unload" if self._settings.control == "explicit" else "call"
            lines.append(
                f"  exposed: whoever reaches {self._settings.host} can {extent} every model, without a password"
            )
        if not serving:
            return [*lines, "  put models into its folders and load them by name"]
        first = self._specifications.get((serving[0]["name"], serving[0]["version"]))
        return [*lines, "try:", f"  {curl_line(first, url(http), http['path'])}"] if first else lines

    def _state(self, version: dict[str, Any]) -> str:
        """How a version is, and how it batches or what to do about its failure."""
        if version["state"] == "failed":
            return f"failed: {cause_text(version['cause'] or {})}"
        specification = self._specifications.get((version["name"], version["version"]))
        return f"{version['state']}, {_batching(specification)}" if specification else str(version["state"])


def _batching(specification: dict[str, Any]) -> str:
    options = specification["options"]
    if specification["batch_axis"]:
        rows = options["max_batch_size"]
        return f"batches of up to {rows} rows" if rows > 1 else "one row at a time (max_batch_size is 1)"
    calls = options["instances"] * options["concurrency"]
    requests = "one request" if calls == 1 else f"{calls} requests"
    return f"no batch axis: {requests} at a time (name the first axis `batch` to batch)"


def url(http: dict[str, Any]) -> str:
    """The address of the HTTP door as this machine reaches it."""
    if http["path"] is not None:
        return "http://localhost"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http["host"], http["host"])  # noqa: S104 - what was bound
    return f"http://[{host}]:{http['port']}" if ":" in host else f"http://{host}:{http['port']}"
