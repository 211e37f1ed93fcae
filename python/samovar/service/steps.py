"""Steps: calls of other models through the engine, as a worker makes them."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from samovar.codecs.arguments import in_order
from samovar.codecs.arrays import ArrayCodec
from samovar.codecs.elements import array_over
from samovar.codecs.fitting import Fitting
from samovar.codecs.results import result_of
from samovar.errors import InputError, TargetError
from samovar.types import Signature

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Caller", "EngineRoute", "Step", "Taken", "caller", "set_caller"]

Taken = tuple[bool, "Sequence[tuple[str, Buffer, int, tuple[int, ...]]]"]


class Step(Protocol):
    """One running call of another model; both ways to take from it raise StepError."""

    async def take(self) -> Taken:
        """Whether it has ended, and its outputs: name, bytes, datatype number and shape of each.

        A stream ends without outputs, what is no stream with them.
        """

    def take_sync(self) -> Taken:
        """The same; this thread waits, without the GIL."""

    def cancel(self) -> None:
        """Nobody wants it any more; where it has ended, nothing happens."""


class Caller(Protocol):
    """What makes steps: the worker."""

    def begin(
        self, model: str, version: str | None, tensors: "Sequence[tuple[str, int, tuple[int, ...], Buffer]]"
    ) -> Step:
        """Send a call; of each input its name, datatype number, shape and C-contiguous bytes."""

    def in_event_loop(self) -> bool:
        """True where this thread runs the event loop, which must not wait."""


_caller: Caller | None = None


def caller() -> Caller | None:
    """What makes steps; None in a process that is no worker."""
    return _caller


def set_caller(worker: Caller | None) -> None:
    """From here on the handles that are bound call through `worker`."""
    global _caller  # noqa: PLW0603 - a process is one worker or none
    _caller = worker


class EngineRoute:
    """The way to a model that the engine serves.

    `bound` is what a worker is given of it at the load: `model`, `version`, `streams`, and the keys of its signature.
    """

    def __init__(self, worker: Caller, bound: Mapping[str, Any]) -> None:
        self.name: str = bound["model"]
        self.streams: bool = bound["streams"]
        self._caller = worker
        self._version: str | None = bound["version"]
        self._signature = Signature.from_json(dict(bound))
        self._fitting = Fitting(self.name, self._signature, writable=False)
        reverse = Signature((), self._signature.inputs, self._signature.batch_axis)
        self._encoder = ArrayCodec(reverse, writable=False)

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "EngineRun":
        """A call that is still to begin. Raises InputError for arguments that do not fit the signature."""
        specs = self._signature.inputs
        try:
            arrays = self._fitting.inputs(in_order(self.name, specs, args, kwargs))
        except InputError as error:
            raise InputError(f"step {self.name}.predict: {error.message}", error.next_step) from None
        encoded = self._encoder.encode(arrays)
        tensors = [(spec.name, *tensor) for spec, tensor in zip(specs, encoded, strict=True)]
        return EngineRun(self, tensors)

    def begin(self, tensors: "Sequence[tuple[str, int, tuple[int, ...], Buffer]]") -> Step:
        """Send a call."""
        return self._caller.begin(self.name, self._version, tensors)

    def refuse_to_wait(self) -> None:
        """Raise TargetError where waiting would stop everything else that this process does."""
        if self._caller.in_event_loop():
            raise TargetError(
                f"step {self.name}.predict.sync waits in the event loop, and every other request with it",
                "write await and leave out .sync, or make the method def instead of async def",
            )


class EngineRun:
    """One call of a route, in the four ways that a handle can be asked for it."""

    def __init__(self, route: EngineRoute, tensors: "Sequence[tuple[str, int, tuple[int, ...], Buffer]]") -> None:
        self._route = route
        self._tensors = tensors

    async def whole(self) -> Any:
        """The result; a cancelled caller cancels the step."""
        step = self._route.begin(self._tensors)
        try:
            return _result(await step.take())
        except BaseException:
            step.cancel()
            raise

    def whole_sync(self) -> Any:
        """The result."""
        self._route.refuse_to_wait()
        step = self._route.begin(self._tensors)
        try:
            return _result(step.take_sync())
        except BaseException:
            step.cancel()
            raise

    async def parts(self) -> AsyncGenerator[Any, None]:
        """The parts of a stream; who leaves early cancels the step."""
        step = self._route.begin(self._tensors)
        try:
            while not (taken := await step.take())[0]:
                yield _result(taken)
        finally:
            step.cancel()

    def parts_sync(self) -> Iterator[Any]:
        """The parts of a stream."""
        self._route.refuse_to_wait()
        return self._waiting()

    def _waiting(self) -> Iterator[Any]:
        step = self._route.begin(self._tensors)
        try:
            while not (taken := step.take_sync())[0]:
                yield _result(taken)
        finally:
            step.cancel()


def _result(taken: Taken) -> Any:
    _, outputs = taken
    return result_of([output[0] for output in outputs], [array_over(*output[1:]) for output in outputs])
