"""Too much, too large, too slow: what is refused, with which words, and that the rest is served."""

import json
import socket

import numpy as np
import pytest

from http_door import Answer
from protocol.gates import Begin, row
from serving import Serve, Served
from watching import eventually, metric

X = {"x": np.ones((1, 4), np.float32)}


def refused(answer: Answer, status: int, code: str) -> None:
    """An error of this kind; an overload also says when to come back."""
    assert (answer.status, answer.code()) == (status, code)
    if status == 429:
        assert int(answer.headers["retry-after"]) >= 1


def test_full_queue_is_a_429_and_those_inside_are_served(gated: Begin) -> None:
    engine = gated("Narrow")
    held = engine.hold("narrow")
    sent = [engine.send("narrow", row(0))]  # ahead of its time, to the worker
    eventually(lambda: metric(engine.served, "samovar_in_flight", model="narrow") == 2, "a call is sent ahead")
    waiting = engine.queue("narrow", [row(1), row(2)])
    refused(engine.served.http.infer("narrow", {"x": row(3)}), 429, "queue_full")
    assert metric(engine.served, "samovar_rejected_total", model="narrow", reason="queue_full") == 1
    assert metric(engine.served, "samovar_queue_bytes", model="narrow") == 8
    engine.release()
    assert [future.result().status for future in (*held, *sent, *waiting)] == [200] * 4


def test_full_queue_in_bytes_is_a_429_but_one_large_request_may_wait(gated: Begin) -> None:
    engine = gated("Narrow")
    held = engine.hold("narrow")
    sent = [engine.send("narrow", row(0))]
    eventually(lambda: metric(engine.served, "samovar_in_flight", model="narrow") == 2, "a call is sent ahead")
    waiting = engine.queue("narrow", [np.zeros((1, 1_000), np.float32)])
    refused(engine.served.http.infer("narrow", {"x": row(1)}), 429, "queue_full")
    engine.release()
    assert [future.result().status for future in (*held, *sent, *waiting)] == [200] * 3


def test_request_of_more_items_than_a_queue_holds_is_the_clients_fault(gated: Begin) -> None:
    engine = gated("Narrow")
    refused(engine.served.http.infer("narrow", {"x": np.zeros((3, 1), np.float32)}), 400, "invalid_input")


def test_requests_in_flight_are_limited(gated: Begin) -> None:
    engine = gated("Gate", options=["--max-requests", "2"])
    held = engine.hold("gate")
    waiting = engine.queue("gate", [row(1)])
    refused(engine.served.http.infer("gate", {"x": row(2)}), 429, "overloaded")
    assert engine.served.http.get("/v2/health/ready").status == 200
    assert metric(engine.served, "samovar_rejected_total", model="gate", reason="overloaded") == 1
    engine.release()
    assert [future.result().status for future in (*held, *waiting)] == [200, 200]
    assert engine.served.http.infer("gate", {"x": row(3)}).status == 200


@pytest.mark.parametrize("header", [{"samovar_timeout_ms": "100"}, {"Request_Timeout": "0.1"}], ids=str)
def test_deadline_is_a_504_while_the_model_runs(gated: Begin, header: dict[str, str]) -> None:
    engine = gated("Gate")
    late = engine.send("gate", row(-1), **header)
    call, _ = engine.gate.accept()
    refused(late.result(), 504, "deadline_exceeded")
    assert metric(engine.served, "samovar_expired_total", model="gate", stage="running") == 1
    call.close()
    assert engine.served.http.infer("gate", {"x": row(1)}).status == 200


def test_deadline_is_a_504_in_the_queue_and_nothing_ran(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    refused(engine.send("gate", row(1), samovar_timeout_ms="50").result(), 504, "deadline_exceeded")
    timeout = {"parameters": {"timeout": 50_000}}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}
    refused(engine.served.http.post("/v2/models/gate/infer", {"inputs": [tensor], **timeout}), 504, "deadline_exceeded")
    engine.release()
    assert held[0].result().status == 200
    assert metric(engine.served, "samovar_expired_total", model="gate", stage="queue") == 2
    assert metric(engine.served, "samovar_items_total", model="gate") == 1


def test_body_limit_counts_what_is_sent_and_what_it_becomes(serve: Serve) -> None:
    http = serve("echo.py:EchoFp64", options=["--max-body-bytes", "1000"]).http
    path = "/v2/models/echo_fp64/infer"
    refused(http.request("POST", path, b" " * 1_001), 413, "payload_too_large")
    with http.wire() as wire:
        wire.send(b"POST ", path.encode(), b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(*[b"64\r\n", b" " * 100, b"\r\n"] * 11)
        refused(wire.answer(), 413, "payload_too_large")
    zeros = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 200], "data": [0] * 200}]}
    body = json.dumps(zeros, separators=(",", ":")).encode()
    assert len(body) < 1_000
    refused(http.request("POST", path, body), 413, "payload_too_large")  # 1,600 bytes once decoded
    assert http.infer("echo_fp64", {"x": np.ones((1, 4))}).status == 200


def test_bodies_of_all_clients_together_are_limited(gated: Begin) -> None:
    engine = gated("Gate", options=["--max-bodies-bytes", "20000"])
    large = np.full((1, 3_000), -1, np.float32)
    held = engine.threads.submit(engine.served.http.infer_binary, "gate", {"x": large})
    call, _ = engine.gate.accept()
    refused(engine.served.http.infer_binary("gate", {"x": large}), 429, "overloaded")
    call.close()
    assert held.result().status == 200
    large[:] = 1
    assert engine.served.http.infer_binary("gate", {"x": large}).status == 200


def test_connections_beyond_the_limit_wait_for_a_free_one(serve: Serve) -> None:
    http = serve("echo.py:EchoFp32", options=["--max-connections", "2"]).http
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with http.wire() as first, http.wire() as second:
        for wire in (first, second):
            wire.send(request)
            assert wire.answer().status == 200
        with http.wire() as third:
            third.send(request)
            third.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                third.socket.recv(1)
            third.socket.settimeout(30)
            first.socket.shutdown(socket.SHUT_RDWR)
            assert third.answer().status == 200


def test_silence_ends_a_connection(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", options=["--header-timeout-s", "0.3", "--keep-alive-s", "0.3"])
    with served.http.wire() as wire:
        assert wire.ended()  # nothing came
    with served.http.wire() as wire:
        wire.send(b"GET /v2 HTTP/1.1\r\nHos")
        assert wire.answer().status == 408
        assert wire.ended()
    with served.http.wire() as wire:
        wire.send(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.answer().status == 200
        assert wire.ended()  # idle


def test_slow_head_is_not_kept_alive_by_single_bytes(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", options=["--header-timeout-s", "0.5"])
    with served.http.wire() as wire:
        wire.send(b"GET /v2 HTTP/1.1\r\nx: ")
        wire.socket.settimeout(0.05)
        for _ in range(600):
            try:
                wire.send(b"y")
                if (first := wire.socket.recv(1)) is not None:
                    break
            except TimeoutError:
                continue
            except OSError:
                first = b""
                break
        else:
            pytest.fail("a head of single bytes was waited for")
        assert first in (b"H", b"")


def test_client_that_goes_away_is_forgotten(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}).encode()
    with engine.served.http.wire() as wire:
        head = b"POST /v2/models/gate/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        wire.send(head, body)
        eventually(lambda: engine.waiting("gate") == 1, "the request waits")
        wire.socket.shutdown(socket.SHUT_WR)  # half-closed is gone
        eventually(lambda: engine.waiting("gate") == 0, "the request is forgotten")
    assert metric(engine.served, "samovar_cancelled_total", model="gate", stage="queue") == 1
    engine.release()
    assert held[0].result().status == 200
    assert metric(engine.served, "samovar_items_total", model="gate") == 1


def test_busy_model_is_nothing_to_another(gated: Begin) -> None:
    engine = gated("Narrow", "Gate")
    held = engine.hold("narrow")
    for n in range(3):
        assert engine.served.http.infer("gate", {"x": row(n)}).status == 200
    engine.release()
    assert held[0].result().status == 200


def test_exceptions_are_500_with_their_text_on_loopback_alone(serve: Serve) -> None:
    bad = {"x": np.array([[-1.0]], np.float32)}
    for options, is_told in (([], True), (["--expose-errors", "id"], False)):
        served: Served = serve("raising.py", options=options)
        answer = served.http.infer("raising", bad)
        refused(answer, 500, "model_error")
        assert ("ValueError: negative input -1" in answer.json()["error"]) == is_told
        logged = [line for line in wait_logged(served, answer.json()["id"]) if line["level"] == "ERROR"]
        assert "negative input -1" in str(logged)


def wait_logged(served: Served, request_id: str) -> list[dict[str, object]]:
    """Lines about a request, once its error is among them."""
    found: list[dict[str, object]] = []

    def look() -> bool:
        found[:] = [line for line in served.log() if line.get("request_id") == request_id]
        return any(line["level"] == "ERROR" for line in found)

    eventually(look, "the error is logged")
    return found
