"""Metrics of user code, by prometheus_client: each made at its first use and found again at the next."""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from samovar.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

__all__ = ["METRICS", "Metrics"]


class Metrics:
    """What `samovar.Context.metrics` is: `context.metrics.counter("plates_read", "plates read").inc()`.

    They appear at `/metrics` with the labels `model` and `version`, as those do that a program makes of
    prometheus_client itself. A name stands for one kind with the same labels, else ConfigError is raised.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[str, tuple[str, ...], Any]] = {}
        self._lock = threading.Lock()  # methods that are no coroutines run in threads

    def counter(self, name: str, description: str = "", labels: Sequence[str] = ()) -> "Counter":
        """What only grows: `.inc()`; with labels `.labels("eu").inc()`."""
        made: Counter = self._metric("Counter", name, description, labels)
        return made

    def gauge(self, name: str, description: str = "", labels: Sequence[str] = ()) -> "Gauge":
        """What rises and falls: `.set(3)`, `.inc()`, `.dec()`."""
        made: Gauge = self._metric("Gauge", name, description, labels)
        return made

    def histogram(
        self, name: str, description: str = "", labels: Sequence[str] = (), *, buckets: Sequence[float] | None = None
    ) -> "Histogram":
        """How values are spread: `.observe(0.2)`; `buckets` are upper bounds."""
        options = {} if buckets is None else {"buckets": buckets}
        made: Histogram = self._metric("Histogram", name, description, labels, **options)
        return made

    def _metric(self, kind: str, name: str, description: str, labels: Sequence[str], **options: Any) -> Any:
        wanted = (kind, tuple(labels))
        with self._lock:
            if name not in self._made:
                self._made[name] = (*wanted, _make(kind, name, description or name, labels, options))
            *found, metric = self._made[name]
        if tuple(found) != wanted:
            raise ConfigError(
                f'metric "{name}" is a {found[0]} with labels {found[1]}, asked for is a {kind} with {wanted[1]}',
                "give one of them another name",
            )
        return metric


METRICS = Metrics()  # of the process, as the registry of prometheus_client is


def _make(kind: str, name: str, description: str, labels: Sequence[str], options: dict[str, Any]) -> Any:
    import prometheus_client

    try:
        return getattr(prometheus_client, kind)(name, description, tuple(labels), **options)
    except ValueError as error:
        raise ConfigError(f'metric "{name}" cannot be made: {error}', "choose another name") from error
