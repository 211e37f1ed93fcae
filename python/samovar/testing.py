"""Real engines for tests, started and stopped in a `with` block."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samovar.client import Client
from samovar.server import Server

__all__ = ["infer", "serve"]


@contextmanager
def serve(*targets: str | Path | type, **options: Any) -> Iterator[Server]:
    """A `samovar.Server` on a free port, quiet unless `quiet=False` says otherwise.

    with samovar.testing.serve(Stn) as server:
        straight = samovar.testing.infer(server, "stn", plates=plates)["output"]
    """
    with Server(*targets, **{"http_port": 0, "grpc_port": 0, "quiet": True, **options}) as server:
        yield server


def infer(server: Server, model: str, /, **inputs: Any) -> dict[str, Any]:
    """Call a model over HTTP, or a Unix socket; inputs and outputs are arrays by name. Raises RequestError."""
    with Client(server.url) as client:
        return client.infer(model, inputs)
