"""What a method learns of the request that it answers."""

import asyncio
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import samovar
from samovar.context import Context, Parameters
from samovar.errors import ConfigError
from samovar.metrics import Metrics


class FakeCall:
    """A call of two requests that are batched."""

    id = 1
    instance = 0
    deadline = math.inf

    def __init__(self) -> None:
        self.cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def cancel(self) -> None:
        """As the thread does that reads the engine's frames."""
        self.cancelled = True
        for callback in self._callbacks:
            callback()

    def request_ids(self) -> list[str]:
        return [request[0] for request in self.requests()]

    def requests(self) -> Sequence[tuple[str, int, Parameters, str]]:
        return [("one", 2, {"seed": 7}, "00-ab-cd-01"), ("two", 1, {}, "")]


def test_a_batch_is_known_by_its_first_request_and_all_of_them() -> None:
    context = Context.of_call(FakeCall(), {"accept": "text/plain"}, name="stn")
    assert (context.id, context.ids) == ("one", ("one", "two"))
    assert (context.parameters, context.all_parameters) == ({"seed": 7}, ({"seed": 7}, {}))
    assert (context.headers, context.trace) == ({"accept": "text/plain"}, "00-ab-cd-01")
    assert context.remaining_s() == math.inf
    with pytest.raises(TypeError):
        context.parameters["seed"] = 8  # type: ignore[index] # the request is what it was


def test_a_context_of_no_request_serves_tests() -> None:
    context = samovar.Context(id="t", parameters={"a": 1}, headers={"x": "y"}, deadline=time.monotonic() + 60)
    assert (context.id, context.parameters, context.headers) == ("t", {"a": 1}, {"x": "y"})
    assert 0 < context.remaining_s() <= 60
    assert not context.cancelled


def test_a_cancellation_is_seen_and_awaited_whichever_thread_brings_it() -> None:
    call = FakeCall()
    context = Context.of_call(call, name="stn")

    async def run() -> None:
        waiting = [asyncio.ensure_future(context.wait_cancelled()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        threading.Thread(target=call.cancel).start()
        await asyncio.gather(*waiting)
        await context.wait_cancelled()

    asyncio.run(run())
    assert context.cancelled
    call.cancel()  # the loop is gone; nothing happens


def test_lines_of_the_logger_appear_unless_the_program_logs_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(logging.getLogger("samovar"), "handlers", [])
    logger = Context(name="stn").logger
    logger.info("read %d plates", 2)
    logger.debug("too fine")
    assert logger.name == "samovar.stn"
    assert capsys.readouterr().err == "INFO read 2 plates\n"
    monkeypatch.setattr(root, "handlers", [logging.NullHandler()])
    logger.info("their own way")
    assert capsys.readouterr().err == ""


class FakeMetric:
    def __init__(self, name: str, description: str, labels: tuple[str, ...], **options: Any) -> None:
        if name == "taken":
            raise ValueError("Duplicated timeseries")
        self.made = (name, description, labels, options)


def test_a_metric_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(Counter=FakeMetric, Gauge=FakeMetric, Histogram=FakeMetric)
    monkeypatch.setitem(sys.modules, "prometheus_client", module)
    metrics = Metrics()
    plates: Any = metrics.counter("plates", "plates read", ["country"])
    assert plates.made == ("plates", "plates read", ("country",), {})
    assert plates is metrics.counter("plates", labels=["country"])
    seconds: Any = metrics.histogram("seconds", buckets=(0.1, 1))
    assert seconds.made == ("seconds", "seconds", (), {"buckets": (0.1, 1)})
    with pytest.raises(
        ConfigError, match=r"^metric \"plates\" is a Counter with labels \('country',\), asked for is a"
    ):
        metrics.gauge("plates")
    with pytest.raises(
        ConfigError, match=r'^metric "taken" cannot be made: Duplicated timeseries; choose another name'
    ):
        metrics.gauge("taken")
