"""Loads under way: workers are asked what the sources have, and each version is followed to its end."""

import json
from collections.abc import Callable
from typing import Any

from samovar.config import Configuration
from samovar.control.deployment import Deployment
from samovar.control.engine import ENDED, Engine, states_of
from samovar.control.loads import Description, Load, model_place
from samovar.control.origins import Origins
from samovar.control.report import Report
from samovar.control.uses import further_sources, title
from samovar.errors import SamovarError, describe_failure
from samovar.repository.settings import is_passing, notes, question_of
from samovar.repository.sources import Key, Source

__all__ = ["Loading"]


class Loading:
    """Every load that has begun and not ended; `end` is told of those that have."""

    def __init__(
        self,
        engine: Engine,
        configuration: Configuration,
        origins: Origins,
        report: Report,
        end: Callable[[Load], None],
    ) -> None:
        self._engine = engine
        self._configuration = configuration
        self._origins = origins
        self._report = report
        self._end = end
        self._deployment = Deployment(engine, configuration, origins, report)
        self._questions: dict[int, tuple[Source, Load]] = {}  # by probe: who describes what, and for whom
        self._loads: list[Load] = []

    def begin(self, load: Load) -> None:
        """Ask about every source. Raises TargetError or ConfigError as `describe`."""
        self._loads.append(load)
        for remark in dict.fromkeys(remark for source in load.sources for remark in self._ask(load, source)):
            self._report.remark(remark)
        self._proceed(load)

    def describe(self, probe: int, body: dict[str, Any] | None, cause: dict[str, Any] | None) -> None:
        """A worker has answered. Raises TargetError or ConfigError for a start that contradicts itself."""
        source, load = self._questions.pop(probe)
        models = body["models"] if body else []
        load.descriptions.append(Description(source, models, probe if body else None, cause))
        served = [self._origins.source(key) for key in self._served()]
        for further in further_sources(models, [*load.sources, *served]):
            load.sources.append(further)
            self._ask(load, further)
        self._proceed(load)

    def follow(self, serial: int, cause: dict[str, Any] | None) -> None:
        """A version is ready, or has failed with the cause."""
        for load in list(self._loads):
            if serial not in load.loading:
                continue
            key, source = load.loading.pop(serial)
            self._report.loaded(key)
            if cause is None:
                self._origins.loaded(key, source)
            else:
                load.faults.append((f'{source}: {title(self._origins.models[key])} version "{key[1]}"', cause))
            self._end_if_over(load)

    def _ask(self, load: Load, source: Source) -> list[str]:
        """Ask about a source, unless its folder or samovar.toml is wrong; what lies beside it, for the log."""
        remarks: list[str] = []
        try:
            remarks = notes(source, self._configuration)
            if source.fault is not None:
                raise source.fault
            question = question_of(source, self._configuration)
        except SamovarError as error:
            load.descriptions.append(Description(source, cause=describe_failure(error)))
        else:
            self._report.asking(source.key)
            passing = is_passing(question, self._configuration)
            body = json.dumps({**question.to_json(), "is_passing": passing, "in_background": load.ticket is not None})
            self._questions[self._engine.probe(body, passing)] = (source, load)
        return remarks

    def _served(self) -> list[Key]:
        """The versions that are there, and need no load for somebody to use them."""
        states = states_of(self._engine)
        return [key for key in self._origins.models if states.get(key, "failed") not in ENDED]

    def _proceed(self, load: Load) -> None:
        if not load.is_described:
            return
        load.drop_repeats(model_place(self._origins.models[key]) for key in self._served())
        if load.ticket is None:
            self._deployment.check(load)
        self._deployment.deploy(load)
        self._end_if_over(load)

    def _end_if_over(self, load: Load) -> None:
        if not load.loading and load.is_described:
            self._loads.remove(load)
            self._end(load)
