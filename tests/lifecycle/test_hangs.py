"""A worker that gives no sign of life after nobody waits for its call is replaced; one that is only busy is not."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from http_door import json_tensor
from serving import Serve, Served, both_transports
from watching import eventually, keyed, keys_in, metric, pid_of, run, value, wait_begun

LOOPS, SPINS = -3, -4
PATIENCE_S = 1.5  # half a second before it is asked, a second for the answer
"""Before the worker is asked, and again before it is ended."""


def hangs(served: Served, model: str) -> float:
    """Workers of a model that were ended for giving no sign of life."""
    return metric(served, "samovar_worker_restarts_total", model=model, cause="hang")


def abandon(served: Served, model: str, end: str, runs: Path, key: int, seconds: float = 0.0) -> None:
    """Let a request begin, and let nobody wait for it any more: its client left, or its time is up."""
    connection = served.http.connect()
    body = json.dumps({"inputs": [json_tensor(name, array) for name, array in keyed(key, seconds).items()]})
    headers = {"samovar-timeout-ms": "1000"} if end == "deadline" else {}
    connection.request("POST", f"/v2/models/{model}/infer", body, headers)
    if end == "deadline":
        assert connection.getresponse().status == 504
    wait_begun(runs, key)
    connection.close()


@both_transports
@pytest.mark.parametrize("end", ["deadline", "closed"])
def test_a_call_that_keeps_the_interpreter_for_nobody_costs_its_worker_its_life(
    serve: Serve, runs: Path, background: ThreadPoolExecutor, end: str
) -> None:
    served = serve("mortal.py:Mortal", "mortal.py:MortalOnce")
    pid, neighbour = pid_of(served, "mortal"), pid_of(served, "mortal_once")
    began = time.monotonic()
    abandon(served, "mortal", end, runs, LOOPS)
    waiting = background.submit(run, served.http, "mortal", 3)
    while not waiting.done():
        assert value(run(served.http, "mortal_once", 5), "pid") == neighbour
    after = waiting.result()
    assert (value(after, "double"), value(after, "pid") != pid) == (6, True)
    assert time.monotonic() - began >= PATIENCE_S
    assert (hangs(served, "mortal"), hangs(served, "mortal_once")) == (1, 0)
    assert keys_in(runs).count(LOOPS) == 1, "what nobody waits for is not run again"
    assert any("no sign of life" in line["message"] for line in served.log())


@both_transports
def test_a_worker_that_was_stopped_in_a_call_is_replaced(serve: Serve, runs: Path) -> None:
    served = serve("mortal.py:Mortal")
    pid = pid_of(served, "mortal")
    with served.http.wire() as wire:
        inputs = [json_tensor(name, array) for name, array in keyed(7, 60.0).items()]
        body = json.dumps({"inputs": inputs}).encode()
        head = f"POST /v2/models/mortal/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        wire.send(head.encode(), body)
        wait_begun(runs, 7)
        os.kill(pid, signal.SIGSTOP)
    after = run(served.http, "mortal", 3)
    assert (value(after, "double"), value(after, "pid") != pid) == (6, True)
    assert hangs(served, "mortal") == 1


@both_transports
def test_a_worker_that_was_stopped_between_calls_is_replaced_once_a_request_has_run_out_of_time(
    serve: Serve, runs: Path
) -> None:
    served = serve("mortal.py:Mortal")
    pid = pid_of(served, "mortal")
    os.kill(pid, signal.SIGSTOP)
    late = run(served.http, "mortal", 7, samovar_timeout_ms="100")
    assert (late.status, late.code()) == (504, "deadline_exceeded")
    after = run(served.http, "mortal", 3)
    assert (value(after, "double"), value(after, "pid") != pid) == (6, True)
    assert hangs(served, "mortal") == 1
    assert 7 not in keys_in(runs)


@both_transports
@pytest.mark.parametrize("end", ["deadline", "closed"])
@pytest.mark.parametrize("key", [7, SPINS], ids=["sleeps", "spins"])
def test_a_call_that_lets_others_have_the_interpreter_may_run_on(serve: Serve, runs: Path, end: str, key: int) -> None:
    served = serve("mortal.py:Mortal")
    pid = pid_of(served, "mortal")
    began = time.monotonic()
    abandon(served, "mortal", end, runs, key, seconds=2 * PATIENCE_S)
    after = run(served.http, "mortal", 3)
    assert (value(after, "double"), value(after, "pid")) == (6, pid)
    assert time.monotonic() - began >= 2 * PATIENCE_S, "asked at least once, it answered"
    assert hangs(served, "mortal") == 0


def test_calls_beside_one_that_hangs_run_again(serve: Serve, runs: Path, background: ThreadPoolExecutor) -> None:
    served = serve("mortal.py:MortalAsync")
    pid = pid_of(served, "mortal_async")
    beside = background.submit(run, served.http, "mortal_async", 7, 3.0)
    wait_begun(runs, 7)
    abandon(served, "mortal_async", "deadline", runs, LOOPS)
    answer = beside.result()  # a call of somebody who waits may be what keeps the interpreter: that is given longer
    assert (value(answer, "double"), value(answer, "pid") != pid) == (14, True)
    assert keys_in(runs).count(7) == 2
    assert hangs(served, "mortal_async") == 1


def test_a_shared_worker_that_hangs_is_replaced_for_all(serve: Serve, runs: Path) -> None:
    served = serve("mortal.py:Mortal", "mortal.py:MortalOnce", options=["--default-worker", "shared"])
    pid = pid_of(served, "mortal_once")
    abandon(served, "mortal", "deadline", runs, LOOPS)
    after = run(served.http, "mortal_once", 3)
    assert (value(after, "double"), value(after, "pid") != pid) == (6, True)
    assert (hangs(served, "mortal"), hangs(served, "mortal_once")) == (1, 0)
    eventually(lambda: run(served.http, "mortal", 4).status == 200, "it is back, too")
