"""The loop that moves what is served to what should be: loads at the start, then on demand, until the stop."""

import json
from collections.abc import Sequence
from typing import Any

from samovar.config import Configuration
from samovar.config.options import close_match
from samovar.control.engine import Engine, states_of, versions_of
from samovar.control.loading import Loading
from samovar.control.loads import Load, Unload, cause_text
from samovar.control.origins import Origins
from samovar.control.report import Report
from samovar.errors import TargetError
from samovar.repository.folders import empty_repository
from samovar.repository.sources import Key, Source, all_sources, folder_sources
from samovar.repository.targets import Target

__all__ = ["Controller"]

_SERVING = ("ready", "degraded")


class Controller:
    """Desired state and reconcile loop of one engine."""

    def __init__(self, engine: Engine, configuration: Configuration, targets: Sequence[Target], report: Report) -> None:
        self._engine = engine
        self._configuration = configuration
        self._targets = targets
        self._report = report
        self._origins = Origins()
        self._loading = Loading(engine, configuration, self._origins, report, self._end_load)
        self._unloads: list[Unload] = []
        self._exit_code: int | None = None

    def run(self) -> int:
        """Serve until the engine is told to stop; the exit code.

        Raises TargetError or ConfigError where the targets have nothing, or contradict each other or the configuration.
        """
        try:
            self._report.starting()
            sources = all_sources(self._targets)
            self._refuse_empty_repositories(sources)
            is_open = self._is_controlled and any(target.kind != "file" for target in self._targets)
            self._loading.begin(Load(None, sources, is_open=is_open))
            while self._exit_code is None:
                event = self._engine.next_event(self._report.wait_s)
                if event is not None:
                    self._obey(json.loads(event))
                self._report.tick()
        finally:
            self._report.ending()
            self._engine.stop()
        return self._exit_code

    def _refuse_empty_repositories(self, sources: Sequence[Source]) -> None:
        """A folder without models is a mistake, unless clients may load what will be there."""
        if self._is_controlled:
            return
        for target in self._targets:
            if not any(source.target == target for source in sources):
                raise empty_repository(target.path)

    @property
    def _is_controlled(self) -> bool:
        return self._configuration.server.control == "explicit"

    def _obey(self, event: dict[str, Any]) -> None:
        match event["kind"]:
            case "described":
                self._loading.describe(event["probe"], event["body"], event["cause"])
            case "version":
                self._follow(event)
            case "load":
                self._load(event["ticket"], event["name"])
            case "unload":
                self._unload(event["ticket"], event["name"])
            case "stop":
                self._report.stopping()
                self._exit_code = 0

    def _follow(self, event: dict[str, Any]) -> None:
        match event["state"]:
            case "loading":
                self._report.working((event["name"], event["version"]))
            case "ready":
                self._loading.follow(event["serial"], None)
            case "failed":
                self._loading.follow(event["serial"], event["cause"] or {})
            case "unloaded":
                self._loading.follow(event["serial"], {"message": "it was unloaded meanwhile"})
                self._end_unloading(event["serial"])

    def _end_unloading(self, serial: int) -> None:
        for unload in list(self._unloads):
            unload.serials.discard(serial)
            if not unload.serials:
                self._unloads.remove(unload)
                self._engine.reply(unload.ticket, None)

    def _end_load(self, load: Load) -> None:
        if load.ticket is None:
            self._finish_start(load)
            return
        if load.faults:
            text = "; ".join(f"{where}: {cause_text(cause)}" for where, cause in load.faults)
            self._refuse(load.ticket, "load_failed", text)
            return
        for key in load.leaving:
            if not self._is_there(key):
                self._origins.leave(key)
                self._engine.retire(*key)
        self._engine.reply(load.ticket, None)

    def _is_there(self, key: Key) -> bool:
        """False for a version whose folder is gone; it may have come back while others were loaded."""
        try:
            return any(source.key == key for source in self._in_folders(key[0]))
        except TargetError:
            return True

    def _in_folders(self, name: str) -> list[Source]:
        """What the folders of targets, and those that models use, have of a model. Raises TargetError."""
        return folder_sources(list(dict.fromkeys([*self._targets, *self._origins.folders(name)])), name)

    def _finish_start(self, load: Load) -> None:
        versions = versions_of(self._engine)
        is_serving = not load.sources or any(version["state"] != "failed" for version in versions)
        if is_serving:
            self._engine.mark_started()
        self._report.started(json.loads(self._engine.addresses()), versions, load.unlisted)
        if is_serving:
            self._report.serves(versions)
        else:
            self._report.nothing_serves(load.faults)
            self._exit_code = 1

    def _load(self, ticket: int, name: str) -> None:
        """Load what a model has on disk now: its new and changed versions; what did not change serves on untouched."""
        try:
            found = self._in_folders(name)
        except TargetError as error:
            self._refuse(ticket, "load_failed", str(error))
            return
        gone = self._origins.of_folders(name) - {source.key for source in found}
        found += self._origins.files(name)
        if found:
            states = states_of(self._engine)
            fresh = [
                source
                for source in found
                if not (self._origins.is_current(source) and states.get(source.key) in _SERVING)
            ]
            self._loading.begin(Load(ticket, fresh, gone))
        elif gone:
            cure = "put it back, or unload the model: what is loaded serves on"
            self._refuse(ticket, "load_failed", f'the folder of model "{name}" is gone; {cure}')
        else:
            self._refuse_unknown(ticket, name)

    def _unload(self, ticket: int, name: str) -> None:
        versions = [version for version in versions_of(self._engine) if version["name"] == name]
        leaving = {v["serial"] for v in versions if v["state"] == "draining" or self._engine.retire(name, v["version"])}
        if leaving:
            self._unloads.append(Unload(ticket, leaving))
        elif versions or name in self._origins.names:  # to unload what is unloaded is no fault
            self._engine.reply(ticket, None)
        else:
            self._refuse_unknown(ticket, name)

    def _refuse_unknown(self, ticket: int, name: str) -> None:
        known = close_match(name, self._origins.names)
        self._refuse(ticket, "unknown_model", f'no target of this engine has a model "{name}"; {known}')

    def _refuse(self, ticket: int, code: str, message: str) -> None:
        """Say why a load or unload is not done; `code` is a slug of the error catalogue."""
        self._engine.reply(ticket, json.dumps({"code": code, "message": message}))
