"""One engine for all tests that only ask questions: starting one for each would take longer than the questions."""

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from protocol.gates import Begin, Gated
from serving import APPS, Serve, Served, Start

TARGETS = ("echo.py", "sum.py", "nobatch.py", "raising.py", "wrong.py", "forms.py")


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """An engine with the models of TARGETS per transport. No question may cost a worker its life."""
    started: dict[str, tuple[Served, list[int]]] = {}

    def engine(transport: str) -> Served:
        if transport not in started:
            served = start(tmp_path_factory.mktemp("engine"), transport)
            started[transport] = served, sorted(served.workers())
        return started[transport][0]

    try:
        yield engine
        for served, workers in started.values():
            assert sorted(served.workers()) == workers, f"a worker was replaced\n{served.output()}"
            assert served.stop() == 0, served.output()
    finally:
        for served, _ in started.values():
            served.destroy()


def start(folder: Path, transport: str) -> Served:
    """An engine with the models of TARGETS, ready."""
    targets = [str(APPS / target) for target in TARGETS]
    options = ["--spare-workers", "0"]
    with pytest.MonkeyPatch.context() as environment:  # before a test's own clean_environment
        for name in [name for name in os.environ if name.startswith("SAMOVAR_")]:
            environment.delenv(name)
        served = Served(Start(targets=targets, folder=folder, options=options, transport=transport))
    try:
        return served.wait_ready()
    except BaseException:
        served.destroy()
        raise


@pytest.fixture(params=["shm", "inline"])
def everywhere(request: pytest.FixtureRequest, engines: Callable[[str], Served]) -> Served:
    """The engine with the models of TARGETS, over each transport."""
    return engines(request.param)


@pytest.fixture
def shared(engines: Callable[[str], Served]) -> Served:
    """The same over shared memory alone, for what has nothing to do with transports."""
    return engines("shm")


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that are to wait while the test goes on."""
    with ThreadPoolExecutor(48) as threads:
        yield threads


@pytest.fixture
def gated(serve: Serve, background: ThreadPoolExecutor) -> Iterator[Begin]:
    """Start an engine for models of apps/calls_held.py, whose calls wait for the test."""
    name = f"test-gate-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as gate:
        gate.bind("\0" + name)
        gate.listen(64)
        gate.settimeout(30)
        started: list[Gated] = []

        def begin(*models: str, options: list[str] | None = None) -> Gated:
            targets = [f"calls_held.py:{model}" for model in models]
            served = serve(*targets, options=options or [], environment={"GATE": name})
            started.append(Gated(served, gate, background))
            return started[-1]

        yield begin
        for engine in started:
            engine.release()
