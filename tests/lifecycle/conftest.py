"""Fixtures of the life cycle suite."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that are to wait while the test goes on."""
    with ThreadPoolExecutor(32) as threads:
        yield threads


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which apps/mortal.py counts its runs."""
    file = tmp_path / "runs"
    monkeypatch.setenv("MORTAL_FILE", str(file))
    return file
