"""A call that runs in the event loop: what it is waited for, and who is told of its end."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from samovar.worker.channel import Call, Headers

__all__ = ["RunningCall"]


class RunningCall:
    """What the event loop knows of a call; `samovar.Context` asks it too."""

    __slots__ = ("_callbacks", "_ids", "_news", "call", "id", "is_answered", "task")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.id = call.id
        self.task: asyncio.Task[None] | None = None
        self.is_answered = False  # an HTTP response ends before what its application still does
        self._ids: list[str] | None = None
        self._news: asyncio.Future[None] | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def instance(self) -> int:
        """The instance that it is for."""
        return self.call.instance

    @property
    def deadline(self) -> float:
        """When the engine will have answered, by `time.monotonic()`."""
        return self.call.deadline

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the answer."""
        return self.call.cancelled

    def request_ids(self) -> list[str]:
        """Ids of the requests in it; known after its end too."""
        if self._ids is None:
            self._ids = self.call.request_ids()
        return self._ids

    def requests(self) -> Sequence[tuple[str, int, Mapping[str, bool | int | float | str], str]]:
        """Id, rows, parameters and trace of each request in it."""
        return self.call.requests()

    def respond(self, head: tuple[int, Headers] | None, body: bytes) -> None:
        """Answer with the rest of an HTTP response."""
        self.is_answered = True
        self.call.respond(head, body)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once when it is cancelled."""
        self._callbacks.append(callback)

    async def news(self) -> None:
        """Wait until something has come for it: a piece of its body, credit, its cancellation."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)

    def heard(self) -> None:
        """Something has come for it; a cancelled call is a cancelled task."""
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)
        if self.call.cancelled and self.task is not None:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()
            self.task.cancel()
