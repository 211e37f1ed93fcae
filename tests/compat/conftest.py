"""What the suites of all clients serve."""

import pytest

from serving import Serve, Served


@pytest.fixture
def echo(serve: Serve) -> Served:
    """A model that answers what it is sent, and that may be loaded and unloaded."""
    return serve("echo.py:EchoFp32", options=["--control", "explicit"])
