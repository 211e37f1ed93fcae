"""The event loop of a worker: each call is a task, and a cancelled call a cancelled task."""

import asyncio
import json
import math
import os
import sys
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from typing import Any

from samovar.context import Tag, running
from samovar.errors import user_traceback
from samovar.worker.asgi import serve_http
from samovar.worker.channel import Ask, Channel
from samovar.worker.loop import report
from samovar.worker.questions import Instance, Questions
from samovar.worker.running import RunningCall
from samovar.worker.steps import EngineCaller
from samovar.worker.watchdog import Watchdog

__all__ = ["run_tasks"]

_AFTERWARDS_S = 2.0  # the engine waits for an unload a little longer


async def run_tasks(channel: Channel, caller: EngineCaller, questions: Questions, first: Ask) -> None:
    """Answer `first` and everything after it until the engine wants this process to end.

    What is still running then is cancelled by the end of the event loop.
    """
    loop = asyncio.get_running_loop()
    caller.enter(loop)
    tasks = _Tasks(channel, caller, questions)
    tasks.take(first)
    loop.add_reader(channel.fileno(), tasks.wake)
    tasks.drain()  # what came before the descriptor was watched
    watchdog = Watchdog(loop, tasks.is_busy)
    try:
        await tasks.ended.wait()
    finally:
        watchdog.stop()


class _Tasks:
    def __init__(self, channel: Channel, caller: EngineCaller, questions: Questions) -> None:
        self.ended = asyncio.Event()
        self._channel = channel
        self._caller = caller
        self._questions = questions
        self._calls: dict[int, RunningCall] = {}
        self._answers: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly
        self._concurrency: float = 1

    def is_busy(self) -> bool:
        """True while a call runs."""
        return bool(self._calls)

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
        for number in self._channel.news():
            if not self._caller.heard(number) and number in self._calls:
                self._calls[number].heard()
        if self._channel.ended:
            self.ended.set()

    @property
    def _is_full(self) -> bool:
        return len(self._calls) >= self._concurrency

    def take(self, message: Any) -> None:
        """Start what a call or question asks for."""
        if not hasattr(message, "verb"):
            call = self._calls[message.id] = RunningCall(message)
            call.task = self._start(self._run_call(call))
            call.task.add_done_callback(lambda task: self._end(call, task))
            return
        if message.verb == "load":
            spec = json.loads(message.body)
            # A service's task may outlive its answer; how many requests it gets is the engine's matter.
            self._concurrency = math.inf if spec["service"] else spec["options"]["concurrency"]
        is_unload = message.verb == "unload" and self._calls
        rest = self._unload(message) if is_unload else self._questions.answer(message)
        if rest is not None:
            task = self._start(rest)
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _unload(self, message: Any) -> None:
        """Unload after what a service does beyond its answers, if that does not take long."""
        if all(call.is_answered for call in self._calls.values()):
            await asyncio.wait([call.task for call in self._calls.values() if call.task], timeout=_AFTERWARDS_S)
        rest = self._questions.answer(message)
        if rest is not None:
            await rest

    def _end(self, call: RunningCall, task: "asyncio.Task[None]") -> None:
        if task.cancelled():  # before it ran at all, else it would have answered
            report(call.call, asyncio.CancelledError())
        was_full = self._is_full
        del self._calls[call.id]
        if was_full:
            self.drain()

    @staticmethod
    def _start(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        return asyncio.get_running_loop().create_task(work)

    async def _run_call(self, running_call: RunningCall) -> None:
        tag = Tag(running_call)
        running.set(tag)  # in the task's own context
        call = running_call.call
        try:
            instance = self._questions.instances[call.instance]
            http = call.http()
            if http is not None:
                await serve_http(instance.application, running_call, http)
            elif instance.model.streams:
                await _send_parts(running_call, instance)
            else:
                call.finish(await instance.outputs_async(call))
        except BaseException as error:  # noqa: BLE001 - a cancellation too is an answer: the engine counts on an END
            if running_call.is_answered:
                _tell_late(error)
            else:
                report(call, asyncio.CancelledError() if call.cancelled and _is_disconnect(error) else error)
        tag.call = None


def _is_disconnect(error: BaseException) -> bool:
    """What ASGI has `send` raise when the client has gone, and what Starlette makes of it."""
    return isinstance(error, ConnectionError) or type(error).__name__ == "ClientDisconnect"


def _tell_late(error: BaseException) -> None:
    """What goes wrong after an answer, in a task of the background for instance, is for the log alone."""
    if not isinstance(error, asyncio.CancelledError):
        sys.stderr.write(f"failed after the answer\n{user_traceback(error)}")


async def _send_parts(running_call: RunningCall, instance: Instance) -> None:
    call = running_call.call
    async with aclosing(instance.model.predict(instance.codec.decode(call.inputs()))) as parts:
        async for part in parts:
            encoded = instance.codec.encode(part)
            while not call.part(encoded):
                await running_call.news()
    call.finish([])
