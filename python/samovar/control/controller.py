"""The loop that moves what is served to what should be: loads at the start, then on demand, until the stop."""

import json
from collections.abc import Sequence
from typing import Any

from samovar.config import Configuration
from samovar.config.options import close_match
from samovar.control.engine import Engine
from samovar.control.loads import Description, Key, Load, Unload, cause_text, duplicates
from samovar.control.report import Report
from samovar.errors import ConfigError, SamovarError
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
_Origin = tuple[Target, str | None]  # and the class there


class Controller:
    """Desired state and reconcile loop of one engine."""

    def __init__(self, engine: Engine, configuration: Configuration, targets: Sequence[Target], report: Report) -> None:
        self._engine = engine
        self._configuration = configuration
        self._targets = targets
        self._report = report
        self._questions: dict[int, tuple[Target, Load]] = {}  # by probe: who describes what, and for whom
        self._origins: dict[Key, _Origin] = {}
        self._placeholders: dict[Key, Target] = {}
        self._loads: list[Load] = []
        self._unloads: list[Unload] = []
        self._exit_code: int | None = None

    def run(self) -> int:
        """Serve until the engine is told to stop; the exit code.

        Raises TargetError or ConfigError where the targets contradict each other or the configuration.
        """
        try:
            self._report.starting()
            self._begin(None, [(target, None) for target in self._targets])
            while self._exit_code is None:
                event = self._engine.next_event(None)
                if event is not None:
                    self._obey(json.loads(event))
        finally:
            self._engine.stop()
        return self._exit_code

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

    def _begin(self, ticket: int | None, questions: Sequence[_Origin]) -> None:
        load = Load(ticket, expected=len(questions))
        self._loads.append(load)
        for target, name in questions:
            self._questions[self._engine.probe(json.dumps(target.question(name)))] = (target, load)

    def _describe(self, probe: int, body: dict[str, Any] | None, cause: dict[str, Any] | None) -> None:
        target, load = self._questions.pop(probe)
        load.descriptions.append(
            Description(target, body["models"], probe) if body else Description(target, cause=cause)
        )
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
        names = {model["name"] for description in load.descriptions for model in description.models}
        unknown = sorted(self._configuration.models.keys() - names)
        if unknown and all(description.cause is None for description in load.descriptions):
            raise ConfigError(f"[models.{unknown[0]}] is the table of no model", close_match(unknown[0], names))

    def _deploy(self, load: Load) -> None:
        """Load what was described; the worker that described a target becomes instance 0 of its first model."""
        total = sum(len(description.models) for description in load.descriptions)
        for description in load.descriptions:
            self._drop_placeholder(description)
            probe = description.probe
            for model in description.models:
                specification = self._deploy_model(load, description.target, model, probe)
                if specification is not None:
                    self._report.loading(specification, len(load.loading), total)
                    probe = None
            if probe is not None:
                self._engine.discard(probe)
        for description in load.descriptions:  # last: a name of a model that loads is not taken by a failure
            if description.cause is not None:
                key = (description.target.placeholder, "1")
                self._declare_failed(load, key, (description.target, description.target.name), description.cause)

    def _deploy_model(
        self, load: Load, target: Target, model: dict[str, Any], probe: int | None
    ) -> dict[str, Any] | None:
        """The version's specification, or None where it is refused."""
        key, origin = (model["name"], model["version"]), (target, model["source"]["class"])
        try:
            spec = {**model, "options": self._options(target, model), "probe": probe}
            serial = self._engine.deploy(json.dumps(spec))
        except (SamovarError, ValueError) as error:
            cause = {"message": getattr(error, "message", str(error)), "next_step": getattr(error, "next_step", "")}
            self._declare_failed(load, key, origin, cause)
            return None
        self._origins[key] = origin
        load.loading[serial] = key
        return spec

    def _options(self, target: Target, model: dict[str, Any]) -> dict[str, Any]:
        name, version = model["name"], model["version"]
        owner, _ = self._origins.get((name, version), (target, None))
        if owner.path != target.path:
            raise ConfigError(f'model "{name}" version "{version}" is already served from {owner}')
        return self._configuration.model_options(name, model["options"], batch_axis=model["batch_axis"])

    def _declare_failed(self, load: Load, key: Key, origin: _Origin, cause: dict[str, Any]) -> None:
        """Keep the failure of a start visible: under `key`, or without a name where that is another model.

        A load that a client asked for adds no model: the client is told, and what serves goes on.
        """
        load.faults.append(f"{origin[0]}: {cause_text(cause)}")
        self._report.failed(str(origin[0]), cause)
        if load.ticket is not None:
            return
        if key in self._origins:
            load.unlisted.append((str(origin[0]), cause))
        else:
            self._origins[key] = origin
            self._placeholders[key] = origin[0]
            self._engine.declare_failed(
                *key, json.dumps({**_NO_CAUSE, **{k: v for k, v in cause.items() if k in _NO_CAUSE}})
            )

    def _drop_placeholder(self, description: Description) -> None:
        """A target that can be described again needs no failure under its own name."""
        for key, target in list(self._placeholders.items()):
            if target == description.target and description.cause is None:
                del self._placeholders[key], self._origins[key]
                self._engine.retire(*key)

    def _follow(self, event: dict[str, Any]) -> None:
        match event["state"]:
            case "ready":
                self._end_loading(event["serial"], None)
            case "failed":
                self._end_loading(event["serial"], cause_text(event["cause"] or {}))
            case "unloaded":
                self._end_loading(event["serial"], "it was unloaded meanwhile")
                self._end_unloading(event["serial"])

    def _end_loading(self, serial: int, fault: str | None) -> None:
        for load in list(self._loads):
            key = load.loading.pop(serial, None)
            if key is not None:
                load.faults += [f'model "{key[0]}" version "{key[1]}": {fault}'] if fault else []
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
        else:
            self._engine.reply(load.ticket, _refusal("load_failed", "; ".join(load.faults)) if load.faults else None)

    def _finish_start(self, load: Load) -> None:
        versions = json.loads(self._engine.versions())
        is_serving = any(version["state"] != "failed" for version in versions)
        if is_serving:
            self._engine.mark_started()
        self._report.started(json.loads(self._engine.addresses()), versions, load.unlisted)
        if not is_serving:
            self._report.nothing_serves(load.faults)
            self._exit_code = 1

    def _load(self, ticket: int, name: str) -> None:
        questions = [origin for (model, _), origin in self._origins.items() if model == name]
        if questions:
            self._begin(ticket, questions)
        else:
            known = close_match(name, {model for model, _ in self._origins})
            self._engine.reply(
                ticket, _refusal("unknown_model", f'no target of this engine has a model "{name}"; {known}')
            )

    def _unload(self, ticket: int, name: str) -> None:
        versions = [version for version in json.loads(self._engine.versions()) if version["name"] == name]
        leaving = {v["serial"] for v in versions if v["state"] == "draining" or self._engine.retire(name, v["version"])}
        if leaving:
            self._unloads.append(Unload(ticket, leaving))
        else:
            fault = _refusal("unknown_model", f'no target of this engine has a model "{name}"')
            self._engine.reply(ticket, None if versions else fault)


def _refusal(code: str, message: str) -> str:
    """Why a load or unload is not done, as the engine reads it; `code` is a slug of the error catalogue."""
    return json.dumps({"code": code, "message": message})
