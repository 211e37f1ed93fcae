"""Methods that are no coroutines run in threads, with the context of their request."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
from anyio import to_thread

__all__ = ["Threads"]

_END = object()


class Threads:
    """At most `count` threads that methods of one service run in at a time."""

    def __init__(self, count: int) -> None:
        self._limiter = anyio.CapacityLimiter(count)

    async def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in a thread; a cancelled request waits for its end, and learns nothing of it.

        One that is cancelled while it waits for a thread does not begin.
        """
        work = _Work(partial(function, *args, **kwargs))
        # A task of its own: the request is cancelled by its task, which anyio's shields do not cover.
        thread = asyncio.create_task(to_thread.run_sync(work, limiter=self._limiter))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            if not work.has_begun:
                thread.cancel()
            await _end_of(thread)
            raise

    @asynccontextmanager
    async def iterate(self, generator: Generator[Any, None, None]) -> AsyncIterator[AsyncGenerator[Any, None]]:
        """The items of a generator, each made in a thread; it is closed when the block ends."""

        async def items() -> AsyncGenerator[Any, None]:
            while (item := await self.run(next, generator, _END)) is not _END:
                yield item

        try:
            yield items()
        finally:
            with anyio.CancelScope(shield=True):
                await self.run(generator.close)


class _Work:
    """A function, and whether a thread has begun with it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.has_begun = False

    def __call__(self) -> Any:
        self.has_begun = True
        return self._function()


async def _end_of(thread: "asyncio.Task[Any]") -> None:
    with anyio.CancelScope(shield=True):
        while not thread.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([thread])
