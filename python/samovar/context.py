"""The call that runs: what its lines are tagged with, and what it tells a method that asks for a `samovar.Context`."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import asyncio
    import logging

    from samovar.metrics import Metrics

__all__ = ["TAG_END", "TAG_START", "Call", "Context", "LoadTag", "Parameters", "Tag", "running"]

TAG_START, TAG_END = "\x1e", "\x1f"

Parameters = Mapping[str, bool | int | float | str]


class Call(Protocol):
    """One execution, as a worker knows it; see `samovar._core.Call`."""

    @property
    def id(self) -> int:
        """Number of the call in the worker's channel."""

    @property
    def instance(self) -> int:
        """The instance that it is for."""

    @property
    def deadline(self) -> float:
        """When it must have ended, by `time.monotonic()`; infinity where nobody said."""

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for its answer."""

    def request_ids(self) -> list[str]:
        """Ids of the requests in it."""

    def requests(self) -> Sequence[tuple[str, int, Parameters, str]]:
        """Id, rows, parameters and trace of each request in it."""


@runtime_checkable
class Telling(Protocol):
    """A call of an event loop, which tells of its cancellation."""

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once when it is cancelled, from any thread."""


class Tag:
    """The call that runs in a context. It lets go of the call, and so of its inputs, when the call has ended."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call

    def prefix(self) -> str:
        """What stands before a line; nothing after the call."""
        call = self.call
        return f"{TAG_START}{call.instance}:{','.join(call.request_ids())}{TAG_END}" if call is not None else ""


class LoadTag(Tag):
    """The load or unload of one of several instances."""

    __slots__ = ("_instance",)

    def __init__(self, instance: int) -> None:
        self.call = None
        self._instance = instance

    def prefix(self) -> str:
        """What stands before a line."""
        return f"{TAG_START}{self._instance}:{TAG_END}"


running: ContextVar[Tag | None] = ContextVar("running", default=None)


class Context:
    """What is known of the request that a method answers; of a batch, what is known of its first request.

    A parameter of this type is none that clients send: `def predict(self, x: ..., context: samovar.Context)`. One that
    is made without a request, `samovar.Context()`, serves to call such a method in a test.

    `id` names the request, `parameters` are what its client added to it, `headers` (lower-case names) those of an HTTP
    request, `trace` its W3C traceparent; `ids` and `all_parameters` have those of every request of a batch. `deadline`
    is in seconds of `time.monotonic()`, infinity where there is none.
    """

    def __init__(
        self,
        *,
        id: str = "",  # noqa: A002 - the name of the attribute
        parameters: Parameters | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: float = math.inf,
        trace: str = "",
        name: str = "context",
    ) -> None:
        self.ids: tuple[str, ...] = (id,)
        self.all_parameters: tuple[Parameters, ...] = (MappingProxyType(dict(parameters or {})),)
        self.headers: Mapping[str, str] = MappingProxyType(dict(headers or {}))
        self.deadline = deadline
        self.trace = trace
        self._name = name
        self._call: Call | None = None
        self._cancellation: asyncio.Event | None = None

    @classmethod
    def of_call(cls, call: Call, headers: Mapping[str, str] | None = None, *, name: str) -> "Context":
        """The context of a call; `name` is the model's or service's."""
        requests = call.requests()
        context = cls(headers=headers, deadline=call.deadline, trace=requests[0][3], name=name)
        context.ids = tuple(request[0] for request in requests)
        context.all_parameters = tuple(MappingProxyType(dict(request[2])) for request in requests)
        context._call = call
        return context

    @property
    def id(self) -> str:
        """The id of the request, as its answer and the log have it."""
        return self.ids[0]

    @property
    def parameters(self) -> Parameters:
        """What the client added to the request, beside its inputs."""
        return self.all_parameters[0]

    def remaining_s(self) -> float:
        """Seconds until the deadline, negative when it has passed."""
        import time

        return self.deadline - time.monotonic()

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the answer: a loop that runs for long looks here."""
        return self._call is not None and self._call.cancelled

    async def wait_cancelled(self) -> None:
        """Return when nobody waits for the answer any more."""
        if self._cancellation is None:
            self._cancellation = self._watch()
        if not self.cancelled:  # it may have come before the watch
            await self._cancellation.wait()

    @property
    def logger(self) -> "logging.Logger":
        """A logger named `samovar.<model or service>`; its lines carry the request's id in the engine's log."""
        return _logger(self._name)

    @property
    def metrics(self) -> "Metrics":
        """Counters, gauges and histograms of prometheus_client, made at their first use."""
        from samovar.metrics import METRICS

        return METRICS

    def _watch(self) -> "asyncio.Event":
        """An event that the cancellation sets, whichever thread brings the news."""
        import asyncio

        event, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

        if isinstance(self._call, Telling):
            self._call.on_cancel(tell)
        return event


def _logger(name: str) -> "logging.Logger":
    """The logger of a model; the lines of all appear unless the program has set up logging itself."""
    import logging

    ours = logging.getLogger("samovar")
    if not ours.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        handler.addFilter(lambda _: not logging.getLogger().handlers)  # set up meanwhile: not twice
        ours.addHandler(handler)
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)
    return ours.getChild(name)
