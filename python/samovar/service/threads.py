"""Methods that are no coroutines run in threads, with the context of their request."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
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
        """Call a function in a thread; a cancelled request waits for its end, and learns nothing of it."""
        return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._limiter)

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
