"""Questions of the engine beside the calls: prepare, describe, load, warm, metrics, unload."""

import gc
import json
from collections.abc import Awaitable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from samovar.codecs.arrays import ArrayCodec
from samovar.context import LoadTag, running
from samovar.errors import describe_failure
from samovar.runtimes import LoadedModel, Question, describe, load
from samovar.runtimes.python.importing import apart
from samovar.types import Signature
from samovar.worker import metrics
from samovar.worker.channel import Ask, Call
from samovar.worker.limits import limit_memory
from samovar.worker.priority import Priority
from samovar.worker.threads import limit_threads
from samovar.worker.warm_up import WarmUp, warm_up_of

__all__ = ["Instance", "Questions", "needs_event_loop"]

_ONLY = 0  # the number of an instance that has its worker for itself


@dataclass(frozen=True)
class Instance:
    """A loaded copy of a version.

    `methods` are those of a service that take tensors, `application` is its ASGI application.
    """

    model: LoadedModel
    codec: ArrayCodec
    methods: Mapping[str, tuple[Any, ArrayCodec]] = field(default_factory=dict)
    application: Any = None

    async def outputs_async(self, call: Call) -> Any:
        """The encoded outputs of a call that does not stream."""
        predict, codec = self.methods[call.method] if call.method else (self.model.predict, self.codec)
        outputs = predict(codec.decode(call.inputs()))
        if isinstance(outputs, Awaitable):
            outputs = await outputs
        return codec.encode(outputs)


def needs_event_loop(ask: Ask) -> bool:
    """True for the load of a model whose predict is async; its constructor and load shall find the running loop."""
    return ask.verb == "load" and bool(json.loads(ask.body)["source"].get("is_async"))


class Questions:
    """Answers questions; `instances` is what has been loaded, by the number of the instance."""

    def __init__(self) -> None:
        self.instances: dict[int, Instance] = {}
        self._lifespan: AsyncExitStack | None = None  # of a service, from its load to its unload
        self._priority = Priority()
        self._warm_ups: dict[int, WarmUp] = {}  # of instances that have been loaded and take no calls yet
        self._verbs = {
            "prepare": self._prepare,
            "describe": self._describe,
            "load": self._load,
            "warm": self._warm,
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
        self._priority.set(is_low=bool(body.get("in_background")))  # if low, until it takes calls
        question = Question.from_json(body)
        with apart(question.path) if body.get("is_passing") else nullcontext():
            return {"models": describe(question)}

    def _load(self, spec: dict[str, Any]) -> Awaitable[dict[str, Any]] | dict[str, Any]:
        """Load an instance; the answer says whether it is to be asked to `warm` before it takes calls."""
        number = spec["instance"]
        limit_threads(spec["options"]["threads"])
        self._priority.set(is_low=number == _ONLY and bool(spec.get("in_background")))
        if number == _ONLY:
            limit_memory(spec["options"]["max_memory_bytes"])
            rest = self._load_instance(spec)
            return self._loaded(number) if rest is None else self._loaded_after(number, rest)
        try:
            with _of_instance(number), apart(Path(spec["source"]["path"])):
                _finish(self._load_instance(spec))
        except BaseException:
            self.instances.pop(number, None)
            self._warm_ups.pop(number, None)
            raise
        return self._loaded(number)

    def _loaded(self, number: int) -> dict[str, Any]:
        if number in self._warm_ups:
            return {"warms": True}
        self._priority.set(is_low=False)
        return {}

    async def _loaded_after(self, number: int, rest: Awaitable[None]) -> dict[str, Any]:
        await rest
        return self._loaded(number)

    def _warm(self, body: dict[str, Any]) -> Awaitable[dict[str, Any]] | dict[str, Any]:
        """Run the samples of a loaded instance; the answer notes what went wrong with zeros."""
        number = body["instance"]
        warm_up = self._warm_ups.pop(number)
        if number == _ONLY:
            note = warm_up.run()
            return self._warmed_after(note) if isinstance(note, Awaitable) else self._warmed(note)
        try:
            with _of_instance(number):
                note = warm_up.run()
        except BaseException:
            with suppress(Exception):  # what went wrong before is what is told
                self._unload_one(number)
            raise
        return self._warmed(note)

    def _warmed(self, note: Any) -> dict[str, Any]:
        self._priority.set(is_low=False)
        return {} if note is None else {"note": note}

    async def _warmed_after(self, note: Awaitable[str | None]) -> dict[str, Any]:
        return self._warmed(await note)

    def _load_instance(self, spec: dict[str, Any]) -> Awaitable[None] | None:
        model = load(spec)
        if spec["service"] is not None:
            return self._load_service(spec, model)
        codec = ArrayCodec(Signature.from_json(spec), writable=spec["options"]["writable_inputs"])
        self.instances[spec["instance"]] = Instance(model, codec)
        warm_up = warm_up_of(spec, model)
        if warm_up is not None:
            self._warm_ups[spec["instance"]] = warm_up
        return model.start()

    def _metrics(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"text": metrics.text()}

    async def _load_service(self, spec: dict[str, Any], service: Any) -> None:
        """Run its load first: what is mounted may use what that makes."""
        codec = ArrayCodec(Signature((), (), batch_axis=False), writable=False)
        rest = service.start()
        if rest is not None:
            await rest
        methods = {
            method["name"]: (
                service.method(method["name"]),
                ArrayCodec(Signature.from_json({**method, "batch_axis": False}), writable=False),
            )
            for method in spec["service"]["methods"]
        }
        application = service.application
        lifespan = AsyncExitStack()
        await lifespan.enter_async_context(application.router.lifespan_context(application))
        self._lifespan = lifespan
        self.instances[spec["instance"]] = Instance(service, codec, methods, application)

    def _unload(self, body: dict[str, Any]) -> Awaitable[None] | None:
        if body.get("instance", _ONLY) != _ONLY:
            self._unload_one(body["instance"])
            if not body["is_final"]:
                gc.collect()
            return None
        self._priority.set(is_low=True)  # nobody waits for who ends, and the end of an interpreter takes 35 ms
        lifespan, self._lifespan = self._lifespan, None
        return self._close_instances() if lifespan is None else self._unload_service(lifespan)

    def _unload_one(self, number: int) -> None:
        """Unload one of several instances, which then holds nothing any more."""
        with _of_instance(number):
            _finish(self.instances.pop(number).model.close())

    async def _unload_service(self, lifespan: AsyncExitStack) -> None:
        """Applications end before the service's own `unload`, which runs even where one of them fails to."""
        try:
            await lifespan.aclose()
        finally:
            if (rest := self._close_instances()) is not None:
                await rest

    def _close_instances(self) -> Awaitable[None] | None:
        try:
            rests = [rest for instance in self.instances.values() if (rest := instance.model.close()) is not None]
        finally:
            self.instances.clear()
        return _in_turn(rests) if rests else None


@contextmanager
def _of_instance(number: int) -> Iterator[None]:
    """Tag what is written meanwhile."""
    running.set(LoadTag(number))
    try:
        yield
    finally:
        running.set(None)


def _finish(rest: Awaitable[None] | None) -> None:
    """Run what is left of a load or unload in an event loop of its own."""
    if rest is not None:
        import asyncio

        asyncio.run(_in_turn([rest]))


async def _in_turn(rests: Sequence[Awaitable[None]]) -> None:
    for rest in rests:
        await rest


async def _tell_after(ask: Ask, rest: Awaitable[dict[str, Any] | None]) -> None:
    try:
        body = await rest
    except BaseException as error:  # noqa: BLE001 - as above
        _tell_failure(ask, error)
    else:
        ask.tell(True, json.dumps(body or {}))


def _tell_failure(ask: Ask, error: BaseException) -> None:
    ask.tell(False, json.dumps(describe_failure(error)))
