"""samovar.service.threads: what becomes of a method in a thread when its request is cancelled."""

import asyncio
import threading
from collections.abc import Generator

import pytest

from samovar.service.threads import Threads


def test_a_cancelled_request_waits_for_the_end_of_its_thread() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait()
        ended.set()

    async def cancel() -> None:
        request = asyncio.create_task(Threads(1).run(work))
        await asyncio.to_thread(begun.wait)
        for _ in range(2):
            request.cancel()
            await asyncio.sleep(0)
            assert not request.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert ended.is_set()

    asyncio.run(cancel())


def test_what_is_cancelled_before_its_turn_does_not_begin() -> None:
    begun, may_end = threading.Event(), threading.Event()
    calls: list[int] = []

    def first() -> None:
        begun.set()
        may_end.wait()

    async def cancel() -> None:
        threads = Threads(1)
        running = asyncio.create_task(threads.run(first))
        await asyncio.to_thread(begun.wait)
        waiting = asyncio.create_task(threads.run(calls.append, 1))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        may_end.set()
        await running
        await threads.run(calls.append, 2)

    asyncio.run(cancel())
    assert calls == [2]


def test_a_generator_is_closed_when_the_item_that_it_makes_is_done() -> None:
    begun, may_end, closed = threading.Event(), threading.Event(), threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            begun.set()
            may_end.wait()
            yield 1
        finally:
            closed.set()

    async def read() -> None:
        async with Threads(1).iterate(items()) as opened:
            async for _ in opened:
                pass

    async def cancel() -> None:
        request = asyncio.create_task(read())
        await asyncio.to_thread(begun.wait)
        request.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert closed.is_set()

    asyncio.run(cancel())
