"""Questions of the engine beside the calls: prepare, describe, load, metrics, unload."""

import json
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from samovar.codecs.arrays import ArrayCodec
from samovar.errors import describe_failure
from samovar.runtimes import LoadedModel, Question, runtime_for, runtime_named
from samovar.types import Signature
from samovar.worker import metrics
from samovar.worker.channel import Ask

__all__ = ["Instance", "Questions", "needs_event_loop"]


@dataclass(frozen=True)
class Instance:
    """A loaded copy of a version."""

    model: LoadedModel
    codec: ArrayCodec


def needs_event_loop(ask: Ask) -> bool:
    """True for the load of a model whose predict is async; its constructor and load shall find the running loop."""
    return ask.verb == "load" and bool(json.loads(ask.body)["source"].get("is_async"))


class Questions:
    """Answers questions; `instances` is what has been loaded, by the number of the instance."""

    def __init__(self) -> None:
        self.instances: dict[int, Instance] = {}
        self._verbs = {
            "prepare": self._prepare,
            "describe": self._describe,
            "load": self._load,
            "metrics": self._metrics,
            "unload": self._unload,
        }

    def answer(self, ask: Ask) -> Coroutine[Any, Any, None] | None:
        """Answer with TELL; where user code is async, only what is returned does, in an event loop."""
        try:
            body = self._verbs[ask.verb](json.loads(ask.body))
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is an answer
            _tell_failure(ask, error)
            return None
        if isinstance(body, Awaitable):
            return _tell_after(ask, body)
        ask.tell(True, json.dumps(body or {}))
        return None

    def _prepare(self, body: dict[str, Any]) -> None:
        """Import what models will need; what is missing is the load's to complain about."""
        for name in body["imports"]:
            with suppress(Exception):
                import_module(name)

    def _describe(self, body: dict[str, Any]) -> dict[str, Any]:
        question = Question.from_json(body)
        return {"models": runtime_for(question.path).inspect(question)}

    def _load(self, spec: dict[str, Any]) -> Awaitable[None] | None:
        model = runtime_named(spec["runtime"]).load(spec)
        codec = ArrayCodec(Signature.from_json(spec), writable=spec["options"]["writable_inputs"])
        self.instances[spec["instance"]] = Instance(model, codec)
        return model.start()

    def _metrics(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"text": metrics.text()}

    def _unload(self, _: dict[str, Any]) -> Awaitable[None] | None:
        try:
            rests = [rest for instance in self.instances.values() if (rest := instance.model.close()) is not None]
        finally:
            self.instances.clear()
        return _in_turn(rests) if rests else None


async def _in_turn(rests: Sequence[Awaitable[None]]) -> None:
    for rest in rests:
        await rest


async def _tell_after(ask: Ask, rest: Awaitable[None]) -> None:
    try:
        await rest
    except BaseException as error:  # noqa: BLE001 - as above
        _tell_failure(ask, error)
    else:
        ask.tell(True, "{}")


def _tell_failure(ask: Ask, error: BaseException) -> None:
    ask.tell(False, json.dumps(describe_failure(error)))
