"""The loop that moves what is served to what should be: loads at the start, then on demand, until the stop."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from samovar.config import Configuration
from samovar.config.options import close_match
from samovar.control.engine import Engine
from samovar.control.loads import Description, Load, Unload, cause_text, duplicates
from samovar.control.origins import Origins
from samovar.control.report import Report
from samovar.errors import ConfigError, SamovarError, TargetError, describe_failure
from samovar.repository.folders import empty_repository
from samovar.repository.settings import notes, options_of, question_of
from samovar.repository.sources import Key, Source, all_sources, folder_sources
from samovar.repository.targets import Target

__all__ = ["Controller"]

_NO_CAUSE: dict[str, Any] = {
    "message": "",
    "exception": None,
    "traceback": "",
    "signal": None,
    "stderr": [],
    "next_step": "",
}
_SERVING = ("ready", "degraded")
_ENDED = ("failed", "unloaded")


class Controller:
    """Desired state and reconcile loop of one engine."""

    def __init__(self, engine: Engine, configuration: Configuration, targets: Sequence[Target], report: Report) -> None:
        self._engine = engine
        self._configuration = configuration
        self._targets = targets
        self._report = report
        self._questions: dict[int, tuple[Source, Load]] = {}  # by probe: who describes what, and for whom
        self._origins = Origins()
        self._loads: list[Load] = []
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
            self._begin(Load(None, sources))
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
                self._describe(event["probe"], event["body"], event["cause"])
            case "version":
                self._follow(event)
            case "load":
                self._load(event["ticket"], event["name"])
            case "unload":
                self._unload(event["ticket"], event["name"])
            case "stop":
                self._report.stopping()
                self._exit_code = 0

    def _begin(self, load: Load) -> None:
        """Ask about every source; what its folder or samovar.toml has wrong needs no worker to be said."""
        self._loads.append(load)
        remarks: list[str] = []
        for source in load.sources:
            try:
                remarks += notes(source, self._configuration)
                if source.fault is not None:
                    raise source.fault
                question = question_of(source, self._configuration)
            except SamovarError as error:
                load.descriptions.append(Description(source, cause=describe_failure(error)))
            else:
                self._report.asking(source.key)
                self._questions[self._engine.probe(json.dumps(question.to_json()))] = (source, load)
        for remark in dict.fromkeys(remarks):
            self._report.remark(remark)
        self._proceed(load)

    def _describe(self, probe: int, body: dict[str, Any] | None, cause: dict[str, Any] | None) -> None:
        source, load = self._questions.pop(probe)
        load.descriptions.append(
            Description(source, body["models"], probe) if body else Description(source, cause=cause)
        )
        self._proceed(load)

    def _proceed(self, load: Load) -> None:
        if load.is_described:
            self._check(load)
            self._deploy(load)
            self._end_if_over(load)

    def _check(self, load: Load) -> None:
        """Refuse a start that contradicts itself, before anything of it is loaded."""
        if load.ticket is not None:
            return
        fault = duplicates(load.descriptions)
        if fault is not None:
            raise fault
        if self._is_controlled and any(target.kind != "file" for target in self._targets):
            return  # a model for the table may come yet
        names = {model["name"] for description in load.descriptions for model in description.models}
        unknown = sorted(self._configuration.models.keys() - names)
        if unknown and all(description.cause is None for description in load.descriptions):
            raise ConfigError(f"[models.{unknown[0]}] is the table of no model", close_match(unknown[0], names))

    def _deploy(self, load: Load) -> None:
        """Load what was described; the worker that described a source becomes instance 0 of its first model."""
        for description in load.descriptions:
            if description.cause is not None:
                continue
            described = [(model["name"], model["version"]) for model in description.models]
            self._drop_placeholder(description.source, described)
            self._report.described(description.source.key, described)
            probe = description.probe
            for model in description.models:
                specification = self._deploy_model(load, description.source, model, probe)
                if specification is not None:
                    self._report.loading(specification)
                    probe = None
            if probe is not None:
                self._engine.discard(probe)
        for description in load.descriptions:  # last: a name of a model that loads is not taken by a failure
            if description.cause is not None:
                self._declare_failed(load, description.source.key, description.source, description.cause)

    def _deploy_model(
        self, load: Load, source: Source, model: dict[str, Any], probe: int | None
    ) -> dict[str, Any] | None:
        """The version's specification, or None where it is refused."""
        key = (model["name"], model["version"])
        origin = replace(source, class_name=model["source"].get("class")) if source.name is None else source
        try:
            spec = {**model, "options": self._options(key, source, model), "probe": probe}
            serial = self._engine.deploy(json.dumps(spec))
        except (SamovarError, ValueError) as error:
            self._declare_failed(load, key, origin, describe_failure(error))
            return None
        self._origins.enter(key, origin)
        load.loading[serial] = (key, source)
        return spec

    def _options(self, key: Key, source: Source, model: dict[str, Any]) -> dict[str, Any]:
        owner = self._origins.owner(key, source)
        if owner is not None:
            raise ConfigError(f'model "{key[0]}" version "{key[1]}" is already served from {owner}')
        return options_of(source, model, self._configuration)

    def _declare_failed(self, load: Load, key: Key, source: Source, cause: dict[str, Any]) -> None:
        """Keep a failure visible: under `key`, or without a name where that is another model.

        A load that a client asked for adds no name that was made up for a file: the client is told. What serves stays.
        """
        load.faults.append((str(source), cause))
        self._report.failed(str(source), key, cause)
        if load.ticket is not None and source.folder is None:
            return
        is_taken = self._origins.owner(key, source) is not None
        if is_taken or self._states().get(key, "failed") not in _ENDED:
            load.unlisted.append((str(source), cause))
        else:
            self._origins.enter(key, source, is_placeholder=True)
            self._engine.declare_failed(
                *key, json.dumps({**_NO_CAUSE, **{k: v for k, v in cause.items() if k in _NO_CAUSE}})
            )

    def _states(self) -> dict[Key, str]:
        return {(version["name"], version["version"]): version["state"] for version in self._versions()}

    def _versions(self) -> list[dict[str, Any]]:
        versions: list[dict[str, Any]] = json.loads(self._engine.versions())
        return versions

    def _drop_placeholder(self, source: Source, described: Sequence[Key]) -> None:
        """A source that can be described needs no failure under a name that was made up for it."""
        for key in self._origins.mended(source, described):
            self._engine.retire(*key)

    def _follow(self, event: dict[str, Any]) -> None:
        match event["state"]:
            case "ready":
                self._end_loading(event["serial"], None)
            case "failed":
                self._end_loading(event["serial"], event["cause"] or {})
            case "unloaded":
                self._end_loading(event["serial"], {"message": "it was unloaded meanwhile"})
                self._end_unloading(event["serial"])

    def _end_loading(self, serial: int, cause: dict[str, Any] | None) -> None:
        for load in list(self._loads):
            if serial not in load.loading:
                continue
            key, source = load.loading.pop(serial)
            self._report.loaded(key)
            if cause is None:
                self._origins.loaded(key, source)
            else:
                load.faults.append((f'{source}: model "{key[0]}" version "{key[1]}"', cause))
            self._end_if_over(load)

    def _end_unloading(self, serial: int) -> None:
        for unload in list(self._unloads):
            unload.serials.discard(serial)
            if not unload.serials:
                self._unloads.remove(unload)
                self._engine.reply(unload.ticket, None)

    def _end_if_over(self, load: Load) -> None:
        if load.loading or not load.is_described:
            return
        self._loads.remove(load)
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
            return any(source.key == key for source in folder_sources(self._targets, key[0]))
        except TargetError:
            return True

    def _finish_start(self, load: Load) -> None:
        versions = self._versions()
        is_serving = not load.sources or any(version["state"] != "failed" for version in versions)
        if is_serving:
            self._engine.mark_started()
        self._report.started(json.loads(self._engine.addresses()), versions, load.unlisted)
        if not is_serving:
            self._report.nothing_serves(load.faults)
            self._exit_code = 1

    def _load(self, ticket: int, name: str) -> None:
        """Load what a model has on disk now: its new and changed versions; what did not change serves on untouched."""
        try:
            found = folder_sources(self._targets, name)
        except TargetError as error:
            self._refuse(ticket, "load_failed", str(error))
            return
        gone = self._origins.of_folders(name) - {source.key for source in found}
        found += self._origins.files(name)
        if found:
            states = self._states()
            fresh = [
                source
                for source in found
                if not (self._origins.is_current(source) and states.get(source.key) in _SERVING)
            ]
            self._begin(Load(ticket, fresh, gone))
        elif gone:
            cure = "put it back, or unload the model: what is loaded serves on"
            self._refuse(ticket, "load_failed", f'the folder of model "{name}" is gone; {cure}')
        else:
            self._refuse_unknown(ticket, name)

    def _unload(self, ticket: int, name: str) -> None:
        versions = [version for version in self._versions() if version["name"] == name]
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
