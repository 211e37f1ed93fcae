"""Who is named as what blocks an event loop."""

import asyncio
import json
import threading
from collections.abc import Iterator
from traceback import FrameSummary

import pytest

from samovar.worker import watchdog
from samovar.worker.watchdog import Watchdog


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.AbstractEventLoop]:
    monkeypatch.setattr(watchdog, "LIMIT_S", 0.05)
    monkeypatch.setattr(watchdog, "_LOOK_S", 0.01)
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_the_users_code_is_named_and_not_the_library_that_it_waits_in(
    loop: asyncio.AbstractEventLoop, capfd: pytest.CaptureFixture[str]
) -> None:
    told = ""

    async def blocks() -> None:
        nonlocal told
        while "blocked" not in told:
            threading.Event().wait(0.2)  # two frames of threading.py
            told += capfd.readouterr().err

    dog = Watchdog(loop, lambda: True)
    try:
        loop.run_until_complete(blocks())
    finally:
        dog.stop()
    assert f"{__file__}:" in told
    assert "in blocks" in told
    assert "threading.py" not in told


def test_where_there_is_no_code_of_the_user_a_library_is_named() -> None:
    stack = [FrameSummary(filename, 1, "f") for filename in ("<frozen runpy>", asyncio.__file__, json.__file__)]
    assert [place.filename for place in watchdog._shown(stack)] == [json.__file__]
