"""A data plane that is not there, for tests of the control plane."""

import json
import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samovar.config import Configuration, ServerConfig
from samovar.config.declared import Declared
from samovar.control import Controller
from samovar.control.report import Report
from samovar.repository.targets import Target, parse_target

CAUSE: dict[str, Any] = {
    "message": "no weights",
    "exception": "OSError",
    "traceback": "",
    "signal": None,
    "stderr": [],
    "next_step": "put them there",
}


class FakeEngine:
    """A data plane whose versions are ready at once, or fail if their class is in `failing`."""

    def __init__(self) -> None:
        self.files: dict[str, list[dict[str, Any]] | dict[str, Any]] = {}
        self.failing: set[str] = set()
        self.script: list[dict[str, Any]] = []
        self.on_reply: Callable[[int, str | None], None] = lambda ticket, error: None
        self.calls: list[tuple[Any, ...]] = []
        self.questions: list[dict[str, Any]] = []
        self.deployed: list[dict[str, Any]] = []
        self.replies: dict[int, str | None] = {}
        self.codes: list[str | None] = []
        self._versions: dict[tuple[str, str], dict[str, Any]] = {}
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._probes = self._serials = 0

    def addresses(self) -> str:
        return json.dumps({"http": {"host": "127.0.0.1", "port": 4711, "path": None}})

    def probe(self, request: str, is_passing: bool) -> int:
        self._probes += 1
        question = json.loads(request)
        self.questions.append(question)
        found = self._found(question)
        body = cause = None
        if isinstance(found, dict):
            cause = found
        else:
            body = {"models": [model for model in found if question["class_name"] in (None, model["source"]["class"])]}
        self._events.put({"kind": "described", "probe": self._probes, "body": body, "cause": cause})
        return self._probes

    def _found(self, question: dict[str, Any]) -> list[dict[str, Any]] | dict[str, Any]:
        """What a worker would find: for a file of a folder, one model unless it says that it is broken."""
        if question["name"] is None:
            return self.files[Path(question["path"]).name]
        if "broken" in Path(question["path"]).read_text():
            return CAUSE
        model = described(question["name"], question["version"], **question["declared"])
        return [{**model, "source": {**model["source"], "path": question["path"]}}]

    def discard(self, probe: int) -> None:
        self.calls.append(("discard", probe))

    def deploy(self, spec: str) -> int:
        version = json.loads(spec)
        self.deployed.append(version)
        failed = version["source"]["class"] in self.failing
        self._enter(version["name"], version["version"], "failed" if failed else "ready", CAUSE if failed else None)
        entered = self._versions[version["name"], version["version"]]
        self._events.put({"kind": "version", **entered})
        return int(entered["serial"])

    def declare_failed(self, name: str, version: str, cause: str) -> None:
        assert json.loads(cause).keys() == CAUSE.keys()
        self._enter(name, version, "failed", json.loads(cause))

    def _enter(self, name: str, version: str, state: str, cause: Any) -> None:
        self._serials += 1
        entered = {"serial": self._serials, "name": name, "version": version, "state": state, "cause": cause}
        self._versions[name, version] = entered

    def retire(self, name: str, version: str) -> bool:
        self.calls.append(("retire", name, version))
        version_of = self._versions.pop((name, version), None)
        if version_of is not None:
            self._events.put({"kind": "version", **version_of, "state": "unloaded"})
        return version_of is not None

    def versions(self) -> str:
        return json.dumps(list(self._versions.values()))

    def next_event(self, timeout_s: float | None) -> str | None:
        try:
            return json.dumps(self._events.get(timeout=5 if timeout_s is None else timeout_s))
        except queue.Empty:
            assert timeout_s is not None, "the control loop waits for an event that never comes"
            return None

    def reply(self, ticket: int, error: str | None) -> None:
        refusal = {"code": None, "message": None} if error is None else json.loads(error)
        self.replies[ticket] = refusal["message"]
        self.codes.append(refusal["code"])
        self.on_reply(ticket, error)
        self._next()

    def mark_started(self) -> None:
        self.calls.append(("started",))
        self._next()

    def _next(self) -> None:
        self._events.put(self.script.pop(0) if self.script else {"kind": "stop"})

    def stop(self) -> None:
        self.calls.append(("stop",))

    def log(self, level: str, message: str, fields: str) -> None:
        assert isinstance(json.loads(fields), dict)


def described(name: str, version: str = "1", **options: Any) -> dict[str, Any]:
    spec = {"name": "x", "datatype": "FP32", "dims": [2]}
    return {
        "name": name,
        "version": version,
        "runtime": "python",
        "source": {"path": "/a", "class": name.title(), "is_async": False, "uses": {}},
        "inputs": [spec],
        "outputs": [spec],
        "batch_axis": True,
        "streams": False,
        "service": None,
        "options": options,
    }


def run(engine: FakeEngine, *targets: str, models: dict[str, dict[str, Any]] | None = None, **settings: Any) -> int:
    server = ServerConfig(**settings)
    found = [target(text) for text in targets]
    declared = {name: Declared(options) for name, options in (models or {}).items()}
    return Controller(engine, Configuration(server, declared), found, Report(engine, server)).run()


def target(text: str) -> Target:
    """A folder of the real file system, or a file below the root of none."""
    if Path(text).is_absolute():
        return parse_target(text)
    path, _, class_name = text.partition(":")
    return Target(Path("/") / path, class_name or None)
