"""Fixtures of the life cycle suite."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lifecycle.pipelines import Pipeline
from serving import Served
from sharing import kept


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


@pytest.fixture(scope="session")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """An engine with apps/composed.py per transport."""
    with kept(["composed.py"], tmp_path_factory, deadly=True) as engine:
        yield engine


@pytest.fixture
def pipeline(composed: Callable[[str], Served], transport: str, tmp_path: Path) -> Pipeline:
    """The service of apps/composed.py and its models, with notes of this test's own."""
    return Pipeline.of(composed(transport), tmp_path)


@pytest.fixture(scope="session")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """An engine with apps/held.py per transport."""
    with kept(["held.py"], tmp_path_factory, deadly=True) as engine:
        yield engine


@pytest.fixture
def held(holding: Callable[[str], Served], transport: str) -> Served:
    """The services of apps/held.py."""
    return holding(transport)
