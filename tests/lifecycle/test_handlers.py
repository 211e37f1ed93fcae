"""What handlers do to those around them: they block, work for nobody, and go on after their answers."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifecycle.holding import JSON, ask
from notes import Notes
from serving import Serve, Served, both_transports
from watching import eventually, metric

X = {"x": np.ones((1, 1), np.float32)}


@both_transports
@pytest.mark.parametrize("name", ["poll", "watch", "through"])
@pytest.mark.parametrize("how", ["closed", "late"])
def test_who_works_for_nobody_is_told(held: Served, tmp_path: Path, name: str, how: str) -> None:
    notes = Notes.within(tmp_path)
    body = json.dumps({"note": str(notes.note)})
    connection = held.http.connect()
    headers = {**JSON, **({"samovar-timeout-ms": "300"} if how == "late" else {})}
    connection.request("POST", f"/held/{name}", body, headers)
    notes.wait("watch" if name == "watch" else "poll")
    if how == "late":
        assert connection.getresponse().status == 504
    connection.close()
    notes.wait("seen")
    eventually(lambda: metric(held, "samovar_in_flight") == 0, "every slot is free")


@both_transports
def test_a_blocking_method_holds_up_its_own_service_alone_and_the_log_says_where(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("held.py", "echo.py:EchoFp32")
    notes, other = Notes.within(tmp_path), Notes.within(tmp_path)
    blocking = background.submit(ask, served, "blocking", notes)
    notes.wait("blocking")
    waiting = background.submit(ask, served, "post", other)
    while not told_blocked(served):
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/held/ready", "/metrics"):
            assert served.http.get(path).status == 200
        assert served.http.infer("echo_fp32", X).status == 200
    assert other.notes() == [], "nothing else of the service has begun"
    (line,) = told_blocked(served)
    assert (line["model"], "held.py:" in line["message"], "in held_sync" in line["message"]) == ("held", True, True)
    assert "asyncio.to_thread" in line["message"]
    late = background.submit(ask, served, "get", other, samovar_timeout_ms="200")
    assert late.result().code() == "deadline_exceeded"
    notes.go()
    other.go()
    assert (blocking.result().status, waiting.result().status) == (200, 200)
    assert len(told_blocked(served)) == 1


def told_blocked(served: Served) -> list[dict[str, Any]]:
    """Lines of the log that say who blocks an event loop."""
    return [line for line in served.log() if "event loop has been blocked" in line["message"]]


def test_a_blocking_method_does_not_keep_the_engine_from_stopping(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("held.py", options=["--drain-timeout-s", "0.5"])
    notes = Notes.within(tmp_path)
    blocking = background.submit(ask, served, "blocking", notes)
    notes.wait("blocking")
    served.process.send_signal(signal.SIGTERM)
    assert blocking.result().code() == "shutting_down"
    assert served.process.wait(10) == 0
    assert served.wait_gone() == []


@both_transports
@pytest.mark.parametrize("last", ["done", "cancelled"])
def test_a_stop_waits_for_what_is_done_after_an_answer_but_not_for_ever(
    serve: Serve, tmp_path: Path, last: str
) -> None:
    served = serve("held.py")
    notes = Notes.within(tmp_path)
    assert ask(served, "afterwards", notes).body == b"answered"
    notes.wait("afterwards")
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in served.output(), "it drains")
    if last == "done":
        notes.go()
    assert served.process.wait(10) == 0
    assert notes.notes()[-1].startswith(last)
