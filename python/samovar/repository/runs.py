"""One call of a model in this process, awaited or not, whole or in parts."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any

from samovar.runtimes import LoadedModel

__all__ = ["EventLoop", "LocalRun"]


class EventLoop:
    """An event loop in a thread of its own: the caller may be in one already, as every notebook is."""

    def __init__(self) -> None:
        import asyncio
        import threading

        self._asyncio = asyncio
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="samovar-load", daemon=True)
        self._thread.start()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Its result, when this thread has waited for it."""
        return self._asyncio.run_coroutine_threadsafe(_waiting(awaitable), self._loop).result()

    async def await_there(self, awaitable: Awaitable[Any]) -> Any:
        """Its result, for another event loop; a cancelled caller cancels it."""
        return await self._asyncio.wrap_future(self._asyncio.run_coroutine_threadsafe(_waiting(awaitable), self._loop))

    def end(self) -> None:
        """End the thread; a second time nothing happens."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class LocalRun:
    """A call that is still to begin; `finish` makes a result of the outputs, `loop` is there if the model is async."""

    def __init__(
        self,
        model: LoadedModel,
        loop: EventLoop | None,
        inputs: Sequence[Any],
        finish: Callable[[Sequence[Any]], Any],
    ) -> None:
        self._model = model
        self._loop = loop
        self._inputs = inputs
        self._finish = finish

    async def whole(self) -> Any:
        """The result."""
        outputs = self._model.predict(self._inputs)
        return self._finish(outputs if self._loop is None else await self._loop.await_there(outputs))

    def whole_sync(self) -> Any:
        """The result, when this thread has waited for it."""
        outputs = self._model.predict(self._inputs)
        return self._finish(outputs if self._loop is None else self._loop.run(outputs))

    async def parts(self) -> AsyncGenerator[Any, None]:
        """The parts of a stream."""
        generator = self._model.predict(self._inputs)
        if self._loop is None:
            with closing(generator):
                for outputs in generator:
                    yield self._finish(outputs)
            return
        async with aclosing(_Elsewhere(generator, self._loop)) as elsewhere:
            async for outputs in elsewhere:
                yield self._finish(outputs)

    def parts_sync(self) -> Generator[Any, None, None]:
        """The parts of a stream; this thread waits for each."""
        generator = self._model.predict(self._inputs)
        if self._loop is not None:
            generator = _waited(generator, self._loop)
        with closing(generator):
            for outputs in generator:
                yield self._finish(outputs)


class _Elsewhere:
    """An asynchronous generator that runs in another event loop."""

    def __init__(self, generator: AsyncGenerator[Any, None], loop: EventLoop) -> None:
        self._generator = generator
        self._loop = loop

    def __aiter__(self) -> "_Elsewhere":
        return self

    async def __anext__(self) -> Any:
        return await self._loop.await_there(anext(self._generator))

    async def aclose(self) -> None:
        await self._loop.await_there(self._generator.aclose())


def _waited(generator: AsyncGenerator[Any, None], loop: EventLoop) -> Generator[Any, None, None]:
    try:
        while True:
            try:
                outputs = loop.run(anext(generator))
            except StopAsyncIteration:
                return
            yield outputs
    finally:
        loop.run(generator.aclose())


async def _waiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
