"""The event loop of a worker whose model is async: each call is a task, and a cancelled call a cancelled task."""

import asyncio
import json
import os
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from samovar.worker.channel import Ask, Call, Channel
from samovar.worker.lines import Tag, running
from samovar.worker.loop import report
from samovar.worker.questions import Questions

__all__ = ["run_tasks"]


async def run_tasks(channel: Channel, questions: Questions, first: Ask) -> None:
    """Answer `first` and everything after it until the engine wants this process to end.

    What is still running then is cancelled by the end of the event loop.
    """
    tasks = _Tasks(channel, questions)
    tasks.take(first)
    asyncio.get_running_loop().add_reader(channel.fileno(), tasks.wake)
    tasks.drain()  # what came before the descriptor was watched
    await tasks.ended.wait()


class _Tasks:
    def __init__(self, channel: Channel, questions: Questions) -> None:
        self.ended = asyncio.Event()
        self._channel = channel
        self._questions = questions
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._answers: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly
        self._concurrency = 1

    def wake(self) -> None:
        """Take the news that made the descriptor readable; with no free slot nothing else makes it unreadable."""
        if self._is_full:
            with suppress(BlockingIOError):
                os.read(self._channel.fileno(), 8)
        self.drain()

    def drain(self) -> None:
        """Take every message that has arrived; while all slots are taken, what the engine sent ahead stays its own."""
        while not self._is_full and (message := self._channel.try_receive()) is not None:
            self.take(message)
        for number in self._channel.cancelled_calls():
            if number in self._calls:
                self._calls[number].cancel()
        if self._channel.ended:
            self.ended.set()

    @property
    def _is_full(self) -> bool:
        return len(self._calls) >= self._concurrency

    def take(self, message: Any) -> None:
        """Start what a call or question asks for."""
        if not hasattr(message, "verb"):
            number = message.id
            self._calls[number] = self._start(self._run_call(message))
            self._calls[number].add_done_callback(lambda _: self._end(number))
            return
        if message.verb == "load":
            self._concurrency = json.loads(message.body)["options"]["concurrency"]
        rest = self._questions.answer(message)
        if rest is not None:
            task = self._start(rest)
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    def _end(self, number: int) -> None:
        was_full = self._is_full
        del self._calls[number]
        if was_full:
            self.drain()

    @staticmethod
    def _start(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        return asyncio.get_running_loop().create_task(work)

    async def _run_call(self, call: Call) -> None:
        tag = Tag(call)
        running.set(tag)  # in the task's own context
        try:
            instance = self._questions.instances[call.instance]
            outputs = instance.model.predict(instance.codec.decode(call.inputs()))
            if instance.model.is_async:
                outputs = await outputs
            call.finish(instance.codec.encode(outputs))
        except BaseException as error:  # noqa: BLE001 - a cancellation too is an answer: the engine counts on an END
            report(call, error)
        tag.call = None
