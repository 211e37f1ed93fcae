"""What no client library would send, byte by byte: an answer or an end in every case, and the engine serves on."""

import json

import pytest

from http_door import Wire
from serving import Served

MIB = 1 << 20
HOST = b"Host: localhost\r\n"
INFER = b"POST /v2/models/echo_fp32/infer HTTP/1.1\r\n" + HOST
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [5]}]}).encode()


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def get(wire: Wire, target: bytes = b"/v2/health/live", *headers: bytes) -> int:
    wire.send(b"GET ", target, b" HTTP/1.1\r\n", HOST, *headers, b"\r\n")
    return wire.answer().status


def infer(wire: Wire, *rest: bytes) -> int:
    wire.send(INFER, *rest)
    return wire.answer().status


def with_length(body: bytes, *headers: bytes) -> bytes:
    return b"".join([b"Content-Length: %d\r\n" % len(body), *headers, b"\r\n", body])


def test_body_in_chunks_is_taken(shared: Served) -> None:
    with shared.http.wire() as wire:
        for chunks in ([BODY], [BODY[:7], BODY[7:]], [bytes([byte]) for byte in BODY]):
            assert infer(wire, b"Transfer-Encoding: chunked\r\n\r\n", chunked(*chunks)) == 200


def test_requests_may_be_sent_ahead_of_their_answers(shared: Served) -> None:
    with shared.http.wire() as wire:
        wire.send((INFER + with_length(BODY)) * 20)
        assert [wire.answer().status for _ in range(20)] == [200] * 20


def test_request_may_come_in_single_bytes(shared: Served) -> None:
    with shared.http.wire() as wire:
        for byte in INFER + with_length(BODY):
            wire.send(bytes([byte]))
        assert wire.answer().status == 200


def test_old_http_is_answered_and_closed(shared: Served) -> None:
    with shared.http.wire() as wire:
        wire.send(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        assert wire.answer().status == 200
        assert wire.ended()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /v2 HTTP/3.0\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHo st: localhost\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: local\0host\r\n\r\n",
        INFER + b"Content-Length: -1\r\n\r\n",
        INFER + b"Content-Length: 1x\r\n\r\n",
        INFER + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        INFER + b"Transfer-Encoding: gzip\r\n\r\n",
        INFER + b"Content-Length: 99999999999999999999\r\n\r\n",
    ],
    ids=lambda text: repr(text[-30:]),
)
def test_what_is_no_http_is_a_400_and_the_end(shared: Served, request_bytes: bytes) -> None:
    with shared.http.wire() as wire:
        wire.send(request_bytes)
        assert wire.answer().status == 400
        assert wire.ended()


@pytest.mark.parametrize("hosts", [b"", HOST + HOST], ids=["none", "two"])
def test_host_must_stand_once(shared: Served, hosts: bytes) -> None:
    with shared.http.wire() as wire:
        wire.send(b"GET /v2 HTTP/1.1\r\n", hosts, b"\r\n")
        answer = wire.answer()
        assert (answer.status, answer.code()) == (400, "invalid_request")


@pytest.mark.parametrize("rest", [b"zz\r\n", b"5\r\nhello5\r\n", b"ffffffffffffffffff\r\n"])
def test_broken_chunks_are_a_400_and_the_end(shared: Served, rest: bytes) -> None:
    with shared.http.wire() as wire:
        assert infer(wire, b"Transfer-Encoding: chunked\r\n\r\n", rest) == 400
        assert wire.ended()


def test_length_beside_chunks_never_makes_two_requests(shared: Served) -> None:
    with shared.http.wire() as wire:
        smuggled = b"GET /v2/models/smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
        wire.send(INFER, b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", chunked(BODY + smuggled))
        assert wire.answer().status == 400  # trailing bytes behind the JSON, or refused by the parser


def test_two_lengths_of_the_json_are_refused(shared: Served) -> None:
    length = b"Inference-Header-Content-Length: %d\r\n" % len(BODY)
    with shared.http.wire() as wire:
        assert infer(wire, with_length(BODY, length, length)) == 400
        assert infer(wire, with_length(BODY, length)) == 200


def test_101_headers_and_32_kib_of_them_are_the_limit(shared: Served) -> None:
    with shared.http.wire() as wire:
        assert get(wire, b"/v2", *(b"x-%d: 1\r\n" % n for n in range(99))) == 200
        assert get(wire, b"/v2", b"x: ", b"y" * 30_000, b"\r\n") == 200
        assert get(wire, b"/v2", *(b"x-%d: 1\r\n" % n for n in range(100))) == 431
        assert wire.ended()
    with shared.http.wire() as wire:
        wire.send(b"GET /v2 HTTP/1.1\r\n", HOST, b"x: ", b"y" * 40_000)
        assert wire.answer().status == 431
        assert wire.ended()


def test_8_kib_of_target_are_the_limit(shared: Served) -> None:
    with shared.http.wire() as wire:
        assert get(wire, b"/v2?" + b"q" * (8_192 - 4)) == 200
        wire.send(b"GET /v2?", b"q" * (8_192 - 3), b" HTTP/1.1\r\n", HOST, b"\r\n")
        answer = wire.answer()
        assert (answer.status, answer.code()) == (414, "uri_too_long")
        assert get(wire) == 200


def test_body_that_says_it_is_too_large_is_refused_unread(shared: Served) -> None:
    with shared.http.wire() as wire:
        wire.send(INFER, b"Content-Length: %d\r\n\r\n" % (128 * MIB + 1))
        answer = wire.answer()
        assert (answer.status, answer.code()) == (413, "payload_too_large")
        assert str(128 * MIB) in answer.json()["error"]
        assert answer.headers["connection"] == "close"


def test_expectation_is_met_after_the_limits_were_checked(shared: Served) -> None:
    expect = b"Expect: 100-continue\r\n"
    with shared.http.wire() as wire:
        wire.send(INFER, expect, b"Content-Length: %d\r\n\r\n" % len(BODY))
        assert wire.answer().status == 100
        wire.send(BODY)
        assert wire.answer().status == 200
    for header, status in (
        (b"Content-Length: %d\r\n" % (128 * MIB + 1), 413),
        (b"Content-Length: 5\r\nsamovar-timeout-ms: 0\r\n", 400),
        (b"Content-Length: 5\r\nContent-Type: text/plain\r\n", 415),
    ):
        with shared.http.wire() as wire:
            assert infer(wire, expect, header, b"\r\n") == status  # and no 100 before it


def test_upgrade_is_not_taken(shared: Served) -> None:
    with shared.http.wire() as wire:
        assert get(wire, b"/v2/health/live", b"Connection: Upgrade\r\nUpgrade: websocket\r\n") == 200
        wire.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.answer().status in (400, 404, 405, 421)


def test_body_that_ends_early_is_nobodys_request(shared: Served) -> None:
    with shared.http.wire() as wire:
        wire.send(INFER, b"Content-Length: 1000\r\n\r\n", BODY)
    assert shared.http.get("/v2/health/live").status == 200


def test_body_that_stops_coming_is_a_408(shared: Served) -> None:
    with shared.http.wire() as wire:
        wire.send(INFER, b"Content-Length: 1000\r\n\r\n", BODY)
        answer = wire.answer()  # after 10 s
        assert (answer.status, answer.code()) == (408, "body_timeout")
        assert wire.ended()
