"""Calls of other models through the engine: what handles stand on in a worker."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from samovar.context import running
from samovar.errors import StepError
from samovar.worker.channel import Channel
from samovar.worker.channel import Step as CoreStep

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Buffer

__all__ = ["EngineCaller"]

_Taken = tuple[bool, Any]


class EngineCaller:
    """Makes steps, each on behalf of the call that runs in its context."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def enter(self, loop: "asyncio.AbstractEventLoop") -> None:
        """From now on this thread runs the worker's event loop."""
        self._loop, self._loop_thread = loop, threading.get_ident()

    def in_event_loop(self) -> bool:
        """True where this thread runs the event loop, which must not wait."""
        return threading.get_ident() == self._loop_thread

    def begin(
        self,
        model: str,
        version: str | None,
        tensors: "Sequence[tuple[str, int, tuple[int, ...], Buffer]]",
    ) -> "EngineStep":
        """Send a call; of each input its name, datatype number, shape and C-contiguous bytes."""
        return EngineStep(self, model, self._channel.begin((model, version), _parent(), tensors))

    def heard(self, number: int) -> bool:
        """Something has come for a step; False if the number is none that is waited for here."""
        future = self._waiting.pop(number, None)
        if future is not None and not future.done():
            future.set_result(None)
        return future is not None

    async def wait(self, step: CoreStep) -> Any:
        """What comes next for a step."""
        if not self.in_event_loop() or self._loop is None:  # a loop of the user's own
            import asyncio

            return await asyncio.to_thread(step.wait)
        while (news := step.take()) is None:
            future = self._waiting[step.number] = self._loop.create_future()
            try:
                await future
            finally:
                self._waiting.pop(step.number, None)
        return news


def _parent() -> int:
    """The call that a step is part of; 0: none, as after the answer of one nobody waits for its steps."""
    tag = running.get()
    call = tag.call if tag is not None else None
    if call is None or getattr(call, "is_answered", False):  # those of an event loop know
        return 0
    return call.id


class EngineStep:
    """One running call of another model."""

    def __init__(self, caller: EngineCaller, model: str, step: CoreStep) -> None:
        self._caller = caller
        self._model = model
        self._step = step

    async def take(self) -> _Taken:
        """Whether it has ended, and its outputs: name, bytes, datatype number and shape. Raises StepError."""
        return self._checked(await self._caller.wait(self._step))

    def take_sync(self) -> _Taken:
        """The same; this thread waits, without the GIL."""
        return self._checked(self._step.wait())

    def cancel(self) -> None:
        """Nobody wants it any more; where it has ended, nothing happens."""
        self._step.drop()

    def _checked(self, news: Any) -> _Taken:
        is_last, outputs, failure = news
        if failure is not None:
            code, message = failure
            raise StepError(message, self._model, code)
        return is_last, outputs
