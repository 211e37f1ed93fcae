"""From descriptions to versions: checked against each other, bound to what they use, handed to the data plane."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from samovar.config import Configuration
from samovar.config.options import close_match
from samovar.control.engine import ENDED, Engine, states_of
from samovar.control.loads import Description, Load, duplicates
from samovar.control.origins import Origins
from samovar.control.paths import shared_path
from samovar.control.report import Report
from samovar.control.uses import Known, cycle, resolved, title
from samovar.errors import ConfigError, SamovarError, TargetError, describe_failure
from samovar.repository.settings import options_of
from samovar.repository.sources import Key, Source

__all__ = ["Deployment"]

_NO_CAUSE: dict[str, Any] = {
    "message": "",
    "exception": None,
    "traceback": "",
    "signal": None,
    "stderr": [],
    "next_step": "",
}


class Deployment:
    """Hands loads whose sources are described to the engine."""

    def __init__(self, engine: Engine, configuration: Configuration, origins: Origins, report: Report) -> None:
        self._engine = engine
        self._configuration = configuration
        self._origins = origins
        self._report = report

    def check(self, load: Load) -> None:
        """Refuse a start that contradicts itself, before any of it is loaded. Raises TargetError or ConfigError."""
        described = sorted(load.descriptions, key=lambda description: load.sources.index(description.source))
        models = [model for description in described for model in description.models]
        fault = duplicates(described) or shared_path(models)
        if fault is not None:
            raise fault
        names = {model["name"] for model in models}
        unknown = sorted(self._configuration.models.keys() - names)
        has_failed = any(description.cause is not None for description in load.descriptions)
        if unknown and not has_failed and not load.is_open:
            raise ConfigError(f"[models.{unknown[0]}] is the table of no model", close_match(unknown[0], names))

    def deploy(self, load: Load) -> None:
        """Load what was described; the worker that described a source becomes instance 0 of its first model.

        Raises TargetError where the models of a start use each other in a circle.
        """
        uses = self._uses(load)
        for description in load.descriptions:
            if description.cause is None:
                self._deploy_source(load, description, uses)
        for description in load.descriptions:  # last: a name of a model that loads is not taken by a failure
            if description.cause is not None:
                self.declare_failed(load, description.source.key, description.source, description.cause)

    def declare_failed(self, load: Load, key: Key, source: Source, cause: dict[str, Any]) -> None:
        """Keep a failure visible: under `key`, or without a name where that is another model.

        A load that a client asked for adds no name that was made up for a file: the client is told. What serves stays.
        """
        load.faults.append((str(source), cause))
        self._report.failed(str(source), key, cause)
        if load.ticket is not None and source.folder is None:
            return
        is_taken = self._origins.owner(key, source) is not None
        if is_taken or states_of(self._engine).get(key, "failed") not in ENDED:
            load.unlisted.append((str(source), cause))
        else:
            self._origins.enter(key, source, None)
            self._engine.declare_failed(
                *key, json.dumps({**_NO_CAUSE, **{k: v for k, v in cause.items() if k in _NO_CAUSE}})
            )

    def _uses(self, load: Load) -> "_Uses":
        uses = _Uses(load, self._origins)
        if uses.circle is not None and load.ticket is None:
            raise uses.circle
        return uses

    def _deploy_source(self, load: Load, description: Description, uses: "_Uses") -> None:
        described = [_key(model) for model in description.models]
        self._drop_placeholder(description.source, described)
        self._report.described(description.source.key, described)
        probe = description.probe
        for model in description.models:
            specification = self._deploy_model(load, description.source, {**model, "probe": probe}, uses)
            if specification is not None:
                self._report.loading(specification)
                probe = None
        if probe is not None:
            self._engine.discard(probe)

    def _deploy_model(self, load: Load, source: Source, model: dict[str, Any], uses: "_Uses") -> dict[str, Any] | None:
        """The version's specification, or None where it is refused."""
        key = _key(model)
        origin = replace(source, class_name=model["source"].get("class")) if source.name is None else source
        try:
            spec = {**self._told(uses.bound(model)), "options": self._options(key, source, model)}
            serial = self._engine.deploy(json.dumps(spec))
        except (SamovarError, ValueError) as error:
            self.declare_failed(load, key, origin, describe_failure(error))
            return None
        if model["source"].get("trusted"):
            self._report.remark(f"{title(model)} is trusted: its file may run code when it is loaded")
        self._origins.enter(key, origin, model)
        load.loading[serial] = (key, source)
        return spec

    def _told(self, model: dict[str, Any]) -> dict[str, Any]:
        """The model; if it is a service, with what of the engine's settings it needs to answer errors itself."""
        if model["service"] is None:
            return model
        return {**model, "source": {**model["source"], "expose_errors": self._configuration.server.tells_exceptions}}

    def _options(self, key: Key, source: Source, model: dict[str, Any]) -> dict[str, Any]:
        owner = self._origins.owner(key, source)
        if owner is not None:
            raise ConfigError(f'{title(model)} version "{key[1]}" is already served from {owner}')
        shared = shared_path([*self._served(), model]) if model["service"] is not None else None
        if shared is not None:
            raise shared
        return options_of(source, model, self._configuration)

    def _served(self) -> list[Mapping[str, Any]]:
        """What was described of the versions that are there."""
        states = states_of(self._engine)
        return [model for key, model in self._origins.models.items() if states.get(key, "failed") not in ENDED]

    def _drop_placeholder(self, source: Source, described: Sequence[Key]) -> None:
        """A source that can be described needs no failure under a name that was made up for it."""
        for key in self._origins.mended(source, described):
            self._engine.retire(*key)


class _Uses:
    """What the models of a load use; `circle` is the error where some use each other."""

    def __init__(self, load: Load, origins: Origins) -> None:
        models: dict[Key, tuple[Source, Mapping[str, Any]]] = {
            key: (origins.source(key), model) for key, model in origins.models.items()
        }
        for description in load.descriptions:
            models |= {_key(model): (description.source, model) for model in description.models}
        self._known = Known(models, [description for description in load.descriptions if description.cause is not None])
        self._names = self._circle(models)
        self.circle = _circle_error(self._names) if self._names else None

    def bound(self, model: dict[str, Any]) -> dict[str, Any]:
        """The model with its handles bound. Raises TargetError where one leads nowhere, or round to itself."""
        if self.circle is not None and model["name"] in self._names:
            raise self.circle
        handles = resolved(model, self._known)
        source = {**model["source"], "uses": handles}
        return {**model, "source": source, "uses": sorted({handle["model"] for handle in handles.values()})}

    def _circle(self, models: Mapping[Key, tuple[Source, Mapping[str, Any]]]) -> list[str]:
        edges: dict[str, set[str]] = {}
        for key, (_, model) in models.items():
            try:
                handles = resolved(model, self._known)
            except TargetError:
                continue  # it will not be deployed
            edges.setdefault(key[0], set()).update(self._owner(handle["model"]) for handle in handles.values())
        return cycle(edges)

    def _owner(self, name: str) -> str:
        """The model of this name, or the service whose method it is."""
        return name if any(key[0] == name for key in self._known.models) else name.rpartition(".")[0]


def _circle_error(names: Sequence[str]) -> TargetError:
    return TargetError(
        f"models use each other in a circle: {' -> '.join(names)}", "put what both need into a model of its own"
    )


def _key(model: Mapping[str, Any]) -> Key:
    return model["name"], model["version"]
