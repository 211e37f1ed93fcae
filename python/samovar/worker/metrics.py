"""What user code measures with prometheus_client, for the engine's page of metrics."""

import sys
from contextlib import suppress

__all__ = ["text"]

_MAX_BYTES = (1 << 20) + 1  # one more than the engine takes, so that it sees that there was more


def text() -> str:
    """The metrics that user code registered, as Prometheus would read them; "" where it uses no prometheus_client.

    What the library itself measures of the process is taken out: the engine measures its workers.
    """
    library = sys.modules.get("prometheus_client")
    if library is None:
        return ""
    for collector in (library.PROCESS_COLLECTOR, library.PLATFORM_COLLECTOR, library.GC_COLLECTOR):
        with suppress(KeyError):  # it was taken out before
            library.REGISTRY.unregister(collector)
    written: bytes = library.generate_latest(library.REGISTRY)
    return written[:_MAX_BYTES].decode(errors="ignore")
