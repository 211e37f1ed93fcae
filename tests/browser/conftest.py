"""A browser, and the services that it looks at."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.chromium import Page, chromium
from serving import Serve, Served


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """The page of a browser of its own."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium: make packages installs it")
    with chromium(program, tmp_path / "profile") as opened:
        yield opened


@pytest.fixture
def served(serve: Serve) -> Served:
    """Services with every kind of parameter and of answer."""
    return serve("feeds.py", "orders.py", "photos.py")
