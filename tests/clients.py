"""Clients that keep asking while a test does harm."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from watching import eventually

_Answer = TypeVar("_Answer")


class Clients(Generic[_Answer]):
    """Threads that call `ask` with a number of its own each time; `answers` by that number, which grow until `end`."""

    def __init__(self, ask: Callable[[int], _Answer], count: int) -> None:
        self.answers: dict[int, _Answer] = {}
        self._ask = ask
        self._numbers = itertools.count(1)
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(count)
        self._running: list[Future[None]] = [self._threads.submit(self._run) for _ in range(count)]

    def _run(self) -> None:
        while not self._is_over.is_set():
            number = next(self._numbers)
            self.answers[number] = self._ask(number)

    def more(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait for more answers than these."""
        before = len(self.answers)
        eventually(lambda: len(self.answers) > before + count, "more answers", timeout_s)

    def end(self) -> None:
        """Wait for the last ones; none may have lost its connection."""
        self._is_over.set()
        for running in self._running:
            running.result()
        self._threads.shutdown()
