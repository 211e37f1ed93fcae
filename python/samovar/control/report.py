"""What a start tells: progress, the ready file, what is served and how to call it."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from samovar.config import ServerConfig
from samovar.control.engine import Engine
from samovar.control.example import curl_line
from samovar.control.loads import Key

__all__ = ["Report"]


class Report:
    """Where the control plane's news go; `listener` gets the content of the ready file too."""

    def __init__(
        self, engine: Engine, settings: ServerConfig, listener: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._listener = listener
        self._signatures: dict[Key, dict[str, Any]] = {}
        self._is_terminal = sys.stderr.isatty()

    def loading(self, model: dict[str, Any], number: int, total: int) -> None:
        """A load begins."""
        name, version = model["name"], model["version"]
        self._signatures[name, version] = model
        if self._is_terminal:
            print(f"loading {name} ({number}/{total}) ...", file=sys.stderr, flush=True)
        else:
            self._engine.log("info", "loading", json.dumps({"model": name, "version": version}))

    def failed(self, target: str, cause: dict[str, Any]) -> None:
        """A target cannot be served."""
        self._engine.log("error", f"{target} cannot be served", json.dumps({"target": target, **cause}))

    def started(self, addresses: dict[str, Any], versions: Sequence[dict[str, Any]]) -> None:
        """The loads of the start have ended: write the ready file, say what is served and how to call it."""
        keys = ("name", "version", "state", "cause")
        document = {
            "pid": os.getpid(),
            "ports": {"http": addresses["http"]["port"], "grpc": None},
            "models": [{key: version[key] for key in keys} for version in versions],
        }
        if self._settings.ready_file is not None:
            _write_atomically(Path(self._settings.ready_file), json.dumps(document))
        if self._listener is not None:
            self._listener({**document, "addresses": addresses})
        for line in self._introduction(addresses["http"], versions):
            print(line, flush=True)

    def nothing_serves(self, faults: Sequence[str]) -> None:
        """No target could be loaded."""
        print("samovar: no target could be loaded:", file=sys.stderr)
        for fault in faults:
            print(f"  {fault}", file=sys.stderr)

    def _introduction(self, http: dict[str, Any], versions: Sequence[dict[str, Any]]) -> list[str]:
        serving = [version for version in versions if version["state"] != "failed"]
        if not serving:
            return []
        lines = [f"samovar serves {len(serving)} of {len(versions)} models at {url(http)}"]
        for version in versions:
            cause = version["cause"]
            reason = f": {cause['message']}" if version["state"] == "failed" and cause else ""
            lines.append(f"  {version['name']} (version {version['version']}) {version['state']}{reason}")
        if not self._settings.is_loopback:
            extent = "call, load and unload" if self._settings.control == "explicit" else "call"
            lines.append(
                f"  exposed: whoever reaches {self._settings.host} can {extent} every model, without a password"
            )
        first = self._signatures.get((serving[0]["name"], serving[0]["version"]))
        return [*lines, "try:", f"  {curl_line(first, url(http), http['path'])}"] if first else lines


def url(http: dict[str, Any]) -> str:
    """The address of the HTTP door as this machine reaches it."""
    if http["path"] is not None:
        return "http://localhost"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http["host"], http["host"])  # noqa: S104 - what was bound
    return f"http://[{host}]:{http['port']}" if ":" in host else f"http://{host}:{http['port']}"


def _write_atomically(path: Path, content: str) -> None:
    """Whoever sees the file sees all of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content, "utf-8")
    temporary.replace(path)
