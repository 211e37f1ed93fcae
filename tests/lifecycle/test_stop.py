"""Stopping in good order."""

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h2.errors
import pytest

from grpc_door import SERVICE, raw_request
from h2_wire import H2Wire
from http_door import json_tensor
from lifecycle.callers import Callers
from lifecycle.load import Load, is_right
from serving import Serve, both_transports
from watching import eventually, is_ready, keyed, metric, pid_of, run, value, wait_begun

LIVE = f"{SERVICE}/ServerLive"
HEADERS, GOAWAY, END_STREAM = 1, 7, 1


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


@pytest.mark.parametrize("number", range(10))
def test_a_stop_under_load_loses_nothing_that_was_accepted(serve: Serve, number: int) -> None:
    served = serve("mortal.py:Mortal", options=["--spare-workers", "0"])
    ports = served.ready["ports"]
    with Callers(ports["http"], ports["grpc"]) as callers:
        callers.wait(30 + 20 * number)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(10) == 0
        callers.end()
    # The kernel takes connections that no process has accepted, and resets them with the socket.
    not_accepted = [outcome for outcome in callers.outcomes if outcome.what.startswith("lost when new")]
    assert callers.not_fine("refused", *(outcome.what for outcome in not_accepted)) == []
    assert "refused" in {outcome.what for outcome in callers.outcomes}


def test_a_stop_waits_for_a_request_whose_body_is_still_to_come(serve: Serve) -> None:
    served = serve("mortal.py:Mortal")
    idle = served.http.connect()
    assert served.http.request("GET", "/v2/health/ready", connection=idle).status == 200
    body = json.dumps({"inputs": [json_tensor(name, array) for name, array in keyed(7).items()]}).encode()
    with served.http.wire() as wire:
        head = b"POST /v2/models/mortal/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        wire.send(head, body[:10])
        served.process.send_signal(signal.SIGTERM)
        assert idle.sock.recv(1) == b"", "the time of connections without a request is over"
        wire.send(body[10:])
        answer = wire.answer()
        assert (value(answer, "double"), answer.headers["connection"]) == (14, "close")
        assert wire.ended()
    idle.close()
    assert served.process.wait(10) == 0


def test_a_stop_says_goodbye_to_http2_and_answers_what_runs(serve: Serve, runs: Path) -> None:
    served = serve("mortal.py:Mortal")
    with H2Wire(served.port) as wire, H2Wire(served.ready["ports"]["grpc"]) as idle:
        idle.answer(idle.call(LIVE, b""))
        request = raw_request("mortal", keyed(2, 1.0)).SerializeToString()
        stream = wire.call(f"{SERVICE}/ModelInfer", request)
        wait_begun(runs, 2)
        served.process.send_signal(signal.SIGTERM)
        assert idle.farewell() == h2.errors.ErrorCodes.NO_ERROR
        assert wire.farewell() == h2.errors.ErrorCodes.NO_ERROR
        frames = list(wire.frames())
        assert (HEADERS, END_STREAM, stream) in [(kind, flags & END_STREAM, number) for kind, flags, number in frames]
        assert GOAWAY in [kind for kind, _, _ in frames[:-1]], "it was told before the answer was there"
    assert served.process.wait(10) == 0


def test_the_drain_delay_keeps_serving_after_readiness_is_false(serve: Serve) -> None:
    served = serve("mortal.py:Mortal", options=["--drain-delay-s", "1.5"])
    kept = served.http.connect()
    assert served.http.request("GET", "/v2/health/ready", connection=kept).status == 200
    began = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: not is_ready(served), "readiness is false")
    assert served.http.get("/v2/health/live").status == 200
    assert not is_ready(served, "mortal")
    assert not served.grpc.call("ServerReady").content.ready
    answer = served.http.request("GET", "/v2/models/mortal", connection=kept)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert value(run(served.http, "mortal", 4), "double") == 8
    assert served.grpc.infer("mortal", keyed(5)).arrays()["double"].tolist() == [[10]]
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
