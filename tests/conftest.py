"""Fixtures for every suite: a clean environment and real engines on free ports."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from serving import APPS, HasNumber, Serve, Served, Start


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No SAMOVAR_ variable of the person who runs the tests reaches one."""
    for name in list(os.environ):
        if name.startswith("SAMOVAR_"):
            monkeypatch.delenv(name)


@pytest.fixture
def transport() -> str:
    """How `serve` lets the engine speak to its workers; `serving.both_transports` makes a test run over each."""
    return "shm"


@pytest.fixture
def serve(tmp_path: Path, transport: str) -> Iterator[Serve]:
    """Start an engine for `echo.py:EchoFp32`-like targets in tests/apps; each is stopped and checked at the end.

    `ready=False` returns before the start-up loads have ended. A test may end an engine itself; one that is still
    running must end with exit code 0 on SIGTERM, and none may leave a process behind.
    """
    started: list[Served] = []

    def start(
        *targets: str,
        options: list[str] | None = None,
        environment: dict[str, str] | None = None,
        ready: bool = True,
        sockets: Sequence[HasNumber] = (),
        timeout_s: float = 30.0,
    ) -> Served:
        folder = tmp_path / f"engine{len(started)}"
        folder.mkdir()
        paths = [target if Path(target).is_absolute() else str(APPS / target) for target in targets]
        served = Served(
            Start(
                targets=paths,
                folder=folder,
                options=options or [],
                environment=environment or {},
                transport=transport,
                sockets=sockets,
                ready_timeout_s=timeout_s,
            )
        )
        started.append(served)
        return served.wait_ready() if ready else served

    try:
        yield start
        for served in started:
            if served.process.poll() is None:
                code = served.stop()
                assert code == 0, f"exit code {code} on SIGTERM\n{served.output()}"
            assert not served.wait_gone(), "processes left behind"
    finally:
        for served in started:
            served.destroy()
