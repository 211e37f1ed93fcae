"""One deadline covers everything, and what nobody waits for does not run."""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from grpc_door import Reply
from http_door import Answer, json_tensor
from serving import Serve, Served, both_transports
from watching import eventually, keyed, keys_in, metric, pid_of, run, value, wait_begun

BLOCK_S = 1.0
LOOPS = -3


def queued(served: Served, model: str) -> int:
    return int(metric(served, "samovar_queue_items", model=model))


@both_transports
def test_a_deadline_in_the_queue_is_answered_in_time_and_never_runs(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal")
    blocker = background.submit(run, served.http, "mortal", 1, BLOCK_S)
    wait_begun(runs, 1)
    began = time.monotonic()
    late = background.submit(run, served.http, "mortal", 2, samovar_timeout_ms="200")
    answer = late.result()
    taken = time.monotonic() - began
    assert (answer.status, answer.code()) == (504, "deadline_exceeded")
    assert not blocker.done(), "it was answered while the instance was still busy"
    assert 0.2 <= taken < 0.5
    assert value(blocker.result(), "double") == 2
    assert value(run(served.http, "mortal", 3), "double") == 6
    assert keys_in(runs) == [1, 3]
    assert metric(served, "samovar_expired_total", model="mortal", stage="queue") == 1


@both_transports
def test_a_prefetched_call_does_not_start_after_its_deadline(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:MortalSingle")
    blocker = background.submit(run, served.http, "mortal_single", 1, BLOCK_S)
    wait_begun(runs, 1)
    late = [background.submit(run, served.http, "mortal_single", key, samovar_timeout_ms="200") for key in (2, 3)]
    for answer in late:
        assert (answer.result().status, answer.result().code()) == (504, "deadline_exceeded")
    assert not blocker.done()
    after = background.submit(run, served.http, "mortal_single", 4)
    assert value(blocker.result(), "double") == 2
    assert value(after.result(), "double") == 8
    assert keys_in(runs) == [1, 4]


@both_transports
def test_a_deadline_while_running_is_answered_and_the_slot_stays_taken_until_the_call_ends(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal")
    began = time.monotonic()
    late = background.submit(run, served.http, "mortal", 1, BLOCK_S, samovar_timeout_ms="200")
    wait_begun(runs, 1)
    next_one = background.submit(run, served.http, "mortal", 2)
    answer = late.result()
    assert (answer.status, answer.code()) == (504, "deadline_exceeded")
    assert 0.2 <= time.monotonic() - began < BLOCK_S
    assert metric(served, "samovar_in_flight", model="mortal") >= 1
    assert not next_one.done()
    assert value(next_one.result(), "double") == 4
    assert time.monotonic() - began >= BLOCK_S
    assert metric(served, "samovar_expired_total", model="mortal", stage="running") == 1


@both_transports
def test_a_call_that_runs_on_for_nobody_costs_its_worker_its_life_if_so_wished(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:MortalHasty")
    pid = pid_of(served, "mortal_hasty")
    short = run(served.http, "mortal_hasty", 5, 0.5, samovar_timeout_ms="100")
    assert (short.status, short.code()) == (504, "deadline_exceeded")
    assert value(run(served.http, "mortal_hasty", 2), "pid") == pid, "it ended within hard_kill_after_s"
    began = time.monotonic()
    endless = background.submit(run, served.http, "mortal_hasty", LOOPS, samovar_timeout_ms="200")
    wait_begun(runs, LOOPS)
    waiting = background.submit(run, served.http, "mortal_hasty", 3)
    assert endless.result().code() == "deadline_exceeded"
    assert time.monotonic() - began < 1, "answered before the worker was killed"
    after = waiting.result()
    assert (value(after, "double"), value(after, "pid") != pid) == (6, True)
    assert time.monotonic() - began >= 1.2
    assert keys_in(runs) == [1, 5, 2, LOOPS, 3]
    assert metric(served, "samovar_worker_restarts_total", model="mortal_hasty", cause="hard_kill") == 1
    assert pid_of(served, "mortal_hasty") == value(after, "pid")


@both_transports
def test_a_stopped_worker_costs_its_requests_their_deadline_and_nobody_else_anything(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal", "mortal.py:MortalOnce")
    pid = pid_of(served, "mortal")
    os.kill(pid, signal.SIGSTOP)
    late = [background.submit(run, served.http, "mortal", key, samovar_timeout_ms="400") for key in (11, 12, 13)]
    while not all(answer.done() for answer in late):
        assert served.http.get("/v2/health/live").status == 200
        assert value(run(served.http, "mortal_once", 5), "double") == 10
    for answer in late:
        assert (answer.result().status, answer.result().code()) == (504, "deadline_exceeded")
    os.kill(pid, signal.SIGCONT)
    after = run(served.http, "mortal", 14)
    assert value(after, "double") == 28
    assert not {11, 12, 13} & set(keys_in(runs)), "what was sent to it has not started late"


def test_no_request_may_take_longer_than_the_model_allows_whatever_it_says(serve: Serve) -> None:
    served = serve("mortal.py:MortalBrief")
    asks: list[Callable[[], Answer | Reply]] = [
        lambda: run(served.http, "mortal_brief", 1, 3.0, samovar_timeout_ms="60000"),
        lambda: run(served.http, "mortal_brief", 2, 3.0, request_timeout="60"),
        lambda: run(served.http, "mortal_brief", 3, 3.0),
        lambda: served.grpc.infer("mortal_brief", keyed(4, 3.0)),  # with the client's own deadline of 30 s
    ]
    for ask in asks:
        began = time.monotonic()
        assert ask().code() == "deadline_exceeded"
        assert 0.5 <= time.monotonic() - began < 3.0, "while the call, or the one before it, still ran"
    eventually(lambda: metric(served, "samovar_in_flight", model="mortal_brief") == 0, "the last call has ended")
    assert run(served.http, "mortal_brief", 5, samovar_timeout_ms="60000").status == 200


def test_a_stopped_worker_does_not_keep_the_engine_from_stopping(serve: Serve) -> None:
    served = serve("mortal.py:Mortal")
    os.kill(pid_of(served, "mortal"), signal.SIGSTOP)
    assert served.stop() == 0


def test_the_queue_timeout_ends_waiting_but_not_running(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal")

    def with_queue_timeout(key: int, seconds: float) -> tuple[int, str]:
        inputs = [json_tensor(name, array) for name, array in keyed(key, seconds).items()]
        answer = served.http.post(
            "/v2/models/mortal/infer", {"inputs": inputs, "parameters": {"timeout": 200_000}}
        )  # microseconds, as Triton has it
        return answer.status, answer.json().get("code", "")

    running = background.submit(with_queue_timeout, 1, BLOCK_S)
    wait_begun(runs, 1)
    began = time.monotonic()
    assert with_queue_timeout(2, 0.0) == (504, "deadline_exceeded")
    assert time.monotonic() - began < BLOCK_S
    assert running.result() == (200, "")
    assert keys_in(runs) == [1]


@both_transports
def test_a_request_whose_client_left_the_queue_never_runs(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal")
    blocker = background.submit(run, served.http, "mortal", 1, BLOCK_S)
    wait_begun(runs, 1)
    gone = served.http.connect()
    inputs = [json_tensor(name, array) for name, array in keyed(2).items()]
    gone.request("POST", "/v2/models/mortal/infer", json.dumps({"inputs": inputs}))
    eventually(lambda: queued(served, "mortal") == 1, "it waits")
    gone.close()
    eventually(lambda: queued(served, "mortal") == 0, "it has left")
    assert not blocker.done()
    assert value(blocker.result(), "double") == 2
    assert value(run(served.http, "mortal", 3), "double") == 6
    assert keys_in(runs) == [1, 3]
    assert metric(served, "samovar_cancelled_total", model="mortal", stage="queue") == 1


@pytest.mark.parametrize(("transport", "end"), [("shm", "closed"), ("inline", "closed"), ("shm", "deadline")])
def test_a_running_async_call_that_nobody_waits_for_is_cancelled(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: ThreadPoolExecutor, end: str
) -> None:
    file = tmp_path / "hooks"
    monkeypatch.setenv("HOOKS_FILE", str(file))
    served = serve("hooks.py:AsyncHooks")
    inputs = {"seconds": np.array([[30.0]], np.float32)}
    connection = served.http.connect()
    headers = {"samovar-timeout-ms": "300"} if end == "deadline" else {}
    body = json.dumps({"inputs": [json_tensor(name, array) for name, array in inputs.items()]})
    connection.request("POST", "/v2/models/async_hooks/infer", body, headers)
    eventually(lambda: "begun" in file.read_text(), "it runs")
    if end == "closed":
        connection.close()
    else:
        assert connection.getresponse().status == 504
        connection.close()
    eventually(lambda: "cancelled" in file.read_text(), "its task is cancelled")
    eventually(lambda: metric(served, "samovar_in_flight", model="async_hooks") == 0, "the slot is free")
    short = {"seconds": np.array([[0.0]], np.float32)}
    assert served.http.infer("async_hooks", short).status == 200
