"""Stopping in good order."""

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lifecycle.load import Load, is_right
from serving import Serve, both_transports
from watching import eventually, is_ready, metric, pid_of, run, value, wait_begun


def is_refused(port: int) -> bool:
    """A new connection is refused."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("transport", "number"), [("shm", signal.SIGTERM), ("inline", signal.SIGTERM), ("shm", signal.SIGINT)]
)
def test_a_stop_lets_running_and_waiting_requests_finish(
    serve: Serve, runs: Path, background: ThreadPoolExecutor, number: signal.Signals
) -> None:
    served = serve("mortal.py:Mortal")
    idle = served.http.connect()
    assert served.http.request("GET", "/v2/health/ready", connection=idle).status == 200
    running = background.submit(run, served.http, "mortal", 2, 1.0)
    wait_begun(runs, 2)
    waiting = background.submit(run, served.http, "mortal", 3)
    eventually(lambda: metric(served, "samovar_queue_items", model="mortal") == 1, "one waits")
    served.process.send_signal(number)
    eventually(lambda: is_refused(served.port), "new connections are refused")
    assert not running.done()
    assert idle.sock.recv(1) == b"", "an idle connection is closed"
    idle.close()
    assert value(running.result(), "double") == 4
    assert value(waiting.result(), "double") == 6
    assert running.result().headers["connection"] == "close"
    assert served.process.wait(10) == 0
    assert served.processes() == []


def test_a_stop_under_load_breaks_no_answer(serve: Serve) -> None:
    served = serve("mortal.py:Mortal")
    with Load(served.http, "mortal", clients=4) as load:
        eventually(lambda: len(load.sent) > 20, "answers")
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(10) == 0
    first_failure = next(index for index, sent in enumerate(load.sent) if not is_right(sent))
    answered = [sent for sent in load.sent[first_failure:] if sent.answer is not None and not is_right(sent)]
    assert {(sent.answer and sent.answer.status) for sent in answered} <= {503}


def test_the_drain_delay_keeps_serving_after_readiness_is_false(serve: Serve) -> None:
    served = serve("mortal.py:Mortal", options=["--drain-delay-s", "1.5"])
    began = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: not is_ready(served), "readiness is false")
    assert served.http.get("/v2/health/live").status == 200
    assert not is_ready(served, "mortal")
    assert value(run(served.http, "mortal", 4), "double") == 8
    assert time.monotonic() - began < 1.5, "the delay is not over"
    assert served.process.wait(10) == 0
    assert time.monotonic() - began >= 1.5


@both_transports
def test_the_drain_time_cuts_what_does_not_end(serve: Serve, runs: Path, background: ThreadPoolExecutor) -> None:
    served = serve("mortal.py:Mortal", options=["--drain-timeout-s", "0.5"])
    running = background.submit(run, served.http, "mortal", 2, 60.0)
    wait_begun(runs, 2)
    waiting = background.submit(run, served.http, "mortal", 3)
    eventually(lambda: metric(served, "samovar_queue_items", model="mortal") == 1, "one waits")
    began = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    for request in (running, waiting):
        answer = request.result()
        assert (answer.status, answer.code()) == (503, "shutting_down")
    assert served.process.wait(10) == 0
    assert 0.5 <= time.monotonic() - began < 4
    assert served.processes() == []


def test_a_second_signal_ends_at_once(serve: Serve, runs: Path, background: ThreadPoolExecutor) -> None:
    served = serve("mortal.py:Mortal")
    running = background.submit(run, served.http, "mortal", 2, 60.0)
    wait_begun(runs, 2)
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: is_refused(served.port), "it drains")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(2) == 128 + signal.SIGTERM
    assert isinstance(running.exception(), OSError)
    assert served.wait_gone() == []


def test_a_stop_during_the_loads_of_the_start_ends_them(serve: Serve) -> None:
    served = serve("stubborn.py:Waiting", ready=False)
    eventually(lambda: "waiting: begun" in served.output(), "it loads")
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(10) == 0
    assert served.wait_gone() == []


def test_a_stop_does_not_wait_for_a_worker_that_is_being_restarted(serve: Serve, tmp_path: Path) -> None:
    crashing = tmp_path / "crashing"
    crashing.touch()
    served = serve("crashing.py", environment={"CRASHING_FILE": str(crashing)})
    eventually(lambda: not is_ready(served, "crashing"), "it waits for its next start")
    began = time.monotonic()
    assert served.stop() == 0
    assert time.monotonic() - began < 4


def test_an_engine_that_served_nothing_stops_in_no_time(serve: Serve) -> None:
    served = serve("mortal.py:Mortal", options=["--spare-workers", "0"])
    assert pid_of(served, "mortal")
    began = time.monotonic()
    assert served.stop() == 0
    assert time.monotonic() - began < 3
