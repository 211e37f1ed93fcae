"""The verb `metrics`: what prometheus_client would tell, without the library being needed."""

import json
import sys
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from samovar.worker.questions import Questions


class FakeAsk:
    verb, body = "metrics", "{}"

    def __init__(self) -> None:
        self.answers: list[tuple[bool, dict[str, Any]]] = []

    def tell(self, ok: bool, body: str) -> None:
        self.answers.append((ok, json.loads(body)))


def told() -> str:
    ask = FakeAsk()
    assert Questions().answer(ask) is None
    ((ok, body),) = ask.answers
    assert ok, body
    text: str = body["text"]
    return text


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """A default registry of this test's own, with the collectors that the library puts there."""
    registry = CollectorRegistry()
    for collector in (
        prometheus_client.PROCESS_COLLECTOR,
        prometheus_client.PLATFORM_COLLECTOR,
        prometheus_client.GC_COLLECTOR,
    ):
        registry.register(collector)
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    return registry


def test_metrics_of_user_code_are_told_and_nothing_else(registry: CollectorRegistry) -> None:
    counter = Counter("pages", "Pages", ["kind"], registry=registry)
    counter.labels("é").inc()
    for value in (1, 2):
        samples = [line for line in told().splitlines() if not line.startswith("#")]
        assert samples[0] == f'pages_total{{kind="é"}} {value}.0'
        assert all(line.startswith("pages_") for line in samples)
        counter.labels("é").inc()


def test_library_that_user_code_does_not_use_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "prometheus_client")
    assert told() == ""
    assert "prometheus_client" not in sys.modules


def test_text_is_cut_to_what_the_engine_takes_and_a_byte(registry: CollectorRegistry) -> None:
    gauge = Gauge("g", "Gauge", ["long"], registry=registry)
    gauge.labels("é" * (1 << 20)).set(1)
    assert len(told().encode()) in {1 << 20, (1 << 20) + 1}  # a character is not cut in two
