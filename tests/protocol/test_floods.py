"""Too much of everything at once: refused early, and neither the engine nor a neighbour's requests feel it."""

import gzip
import socket
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from grpc import Compression, StatusCode, channel_ready_future

from grpc_door import raw_request
from http_door import Answer, Wire
from protocol.aftermath import MAX_BODY_BYTES as LIMIT
from protocol.aftermath import unharmed
from protocol.bad_bodies import GOOD
from serving import Served

MIB = 1 << 20
HOST = b"Host: localhost\r\n"
PATHS = ["/v2/models/echo_fp32/infer", "/v2/models/onnx_echo_fp32/infer"]
GET = b"GET /v2/health/live HTTP/1.1\r\n" + HOST
POST = f"POST {PATHS[0]} HTTP/1.1\r\n".encode() + HOST

X = {"x": np.ones((1, 2), np.float32)}


@pytest.fixture
def flooded(suspicious: Served) -> Iterator[Served]:
    """The engine, which must be as it was after each test."""
    with unharmed(suspicious):
        yield suspicious


def refused(answer: Answer, status: int, code: str) -> None:
    """A refusal with its reason."""
    assert (answer.status, answer.code()) == (status, code), answer.body[:300]
    assert len(answer.body) < 700


def pour(wire: Wire, *parts: bytes) -> None:
    """Send what the engine may stop reading at any moment."""
    for part in parts:
        try:
            wire.send(part)
        except (BrokenPipeError, ConnectionResetError):
            return


def answer_or_end(wire: Wire) -> Answer | None:
    """The answer, unless the connection ended with bytes of ours on their way, which resets it."""
    try:
        return wire.answer()
    except (ConnectionResetError, AssertionError):
        return None


def peak_kib(served: Served) -> int:
    """Most memory that the engine ever had."""
    status = Path(f"/proc/{served.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


HEADS = {
    "10,000 headers": GET + b"".join(b"x-%d: 1\r\n" % n for n in range(10_000)) + b"\r\n",
    "one name 10,000 times": GET + b"x: 1\r\n" * 10_000 + b"\r\n",
    "a header of 1 MiB": GET + b"x: " + b"y" * MIB + b"\r\n\r\n",
    "a name of 1 MiB": GET + b"y" * MIB + b": 1\r\n\r\n",
    "1 MiB of empty lines": b"\r\n" * (MIB // 2) + GET + b"\r\n",
    "1 MiB of spaces": GET + b"x:" + b" " * MIB + b"1\r\n\r\n",
    "a target of 1 MiB": b"GET /" + b"y" * MIB + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method of 1 MiB": b"Y" * MIB + b" / HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_endless_heads_are_cut_off(flooded: Served, name: str) -> None:
    for _ in range(20):
        with flooded.http.wire() as wire:
            pour(wire, HEADS[name])
            answer = answer_or_end(wire)
            if answer is not None:
                assert answer.status in (400, 414, 431)
                assert len(answer.body) < 700
            assert wire.ended()


def test_a_million_chunks_of_one_byte_are_one_body(flooded: Served) -> None:
    chunks = b"1\r\n \r\n" * 1_000_000
    with flooded.http.wire() as wire:
        wire.send(POST, b"Transfer-Encoding: chunked\r\n\r\n", chunks)
        wire.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD))
        assert wire.answer().status == 200


@pytest.mark.parametrize(
    "rest",
    [
        b"1;" + b"e" * MIB + b"\r\n \r\n0\r\n\r\n",
        b"0" * MIB + b"1\r\n \r\n0\r\n\r\n",
        b"0\r\n" + b"".join(b"t-%d: 1\r\n" % n for n in range(100_000)) + b"\r\n",
        b"0\r\nt: " + b"y" * MIB + b"\r\n\r\n",
        b"1;e\r\n \r\n" * 100_000 + b"0\r\n\r\n",
    ],
    ids=["long extension", "long size", "trailers", "long trailer", "extensions"],
)
def test_endless_framing_of_chunks_is_cut_off(flooded: Served, rest: bytes) -> None:
    for _ in range(5):
        with flooded.http.wire() as wire:
            pour(wire, POST, b"Transfer-Encoding: chunked\r\n\r\n", rest)
            answer = answer_or_end(wire)
            assert answer is None or answer.status in (400, 413, 431)


@pytest.mark.parametrize("path", PATHS)
def test_bodies_above_the_limit_are_refused_however_they_come(flooded: Served, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\n".encode() + HOST
    with flooded.http.wire() as wire:
        wire.send(head, b"Content-Length: %d\r\n\r\n" % (LIMIT + 1))
        refused(wire.answer(), 413, "payload_too_large")
    with flooded.http.wire() as wire:  # nobody said how much there will be
        wire.send(head, b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%s\r\n" % (MIB, b" " * MIB)
        pour(wire, *[chunk] * (LIMIT // MIB + 1))
        if (answer := answer_or_end(wire)) is not None:
            refused(answer, 413, "payload_too_large")


def test_bodies_that_become_too_large_are_refused(flooded: Served) -> None:
    count = LIMIT // 8 + 1
    head = b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,%d],"data":[' % count
    body = head + b"0," * (count - 1) + b"0]}]}"
    refused(flooded.http.request("POST", "/v2/models/echo_fp64/infer", body), 413, "payload_too_large")


def packed(size: int, start: bytes) -> bytes:
    """`start` and a deflate stream of so many zero bytes, built of equal pieces because packing them takes seconds."""
    packer = zlib.compressobj(9, wbits=-15)
    piece = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + piece * (size // MIB) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "start", "path"),
    [("gzip", b"\x1f\x8b\x08" + bytes(7), PATHS[0]), ("deflate", b"\x78\xda", PATHS[1])],
    ids=["gzip", "deflate"],
)
def test_a_bomb_of_1_gib_is_defused_at_the_limit(flooded: Served, coding: str, start: bytes, path: str) -> None:
    bomb = packed(1_024 * MIB, start)
    assert len(bomb) < 2 * MIB
    before = peak_kib(flooded)
    refused(flooded.http.request("POST", path, bomb, {"Content-Encoding": coding}), 413, "payload_too_large")
    assert peak_kib(flooded) <= before + 2 * LIMIT // 1_024


def test_a_bomb_inside_a_bomb_stays_closed(flooded: Served) -> None:
    bomb = gzip.compress(gzip.compress(bytes(64 * MIB)))
    refused(flooded.http.request("POST", PATHS[0], bomb, {"Content-Encoding": "gzip"}), 400, "invalid_request")


@pytest.mark.parametrize(
    ("start", "piece", "words"),
    [
        (b'{"u":', b"[", "64 levels"),
        (b"", b'{"a":', "64 levels"),
        (b"", b" ", "the end"),
        (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[', b"1", "FP32"),
        (b'{"id":"', b"\\u0041", "closing quote"),
    ],
    ids=["arrays", "objects", "spaces", "number", "escapes"],
)
def test_bodies_of_nonsense_are_read_in_no_more_memory(flooded: Served, start: bytes, piece: bytes, words: str) -> None:
    body = start + piece * (LIMIT // len(piece) - len(start))
    before = peak_kib(flooded)
    answer = flooded.http.request("POST", PATHS[0], body)
    refused(answer, 400, "invalid_request")
    assert words in answer.json()["error"]
    assert peak_kib(flooded) <= before + 2 * LIMIT // 1_024


def test_a_million_members_that_nobody_reads_cost_nothing(flooded: Served) -> None:
    body = b'{"u":[' + b'{"a":"b"},' * 1_000_000 + b"0]," + GOOD[1:]
    for path in PATHS:
        assert flooded.http.request("POST", path, body).status == 200


def test_a_million_inputs_and_outputs_are_counted_as_they_come(flooded: Served) -> None:
    tensor = b'{"name":"%d","datatype":"FP32","shape":[0],"data":[]},'
    inputs = b"".join(tensor % n for n in range(200_000))
    answer = flooded.http.request("POST", PATHS[0], b'{"inputs":[' + inputs + b"0]}")
    refused(answer, 400, "invalid_request")
    assert "1024 inputs" in answer.json()["error"]
    outputs = b'{"name":"output"},' * 1_000_000
    answer = flooded.http.request("POST", PATHS[0], b'{"outputs":[' + outputs + b"0]," + GOOD[1:])
    refused(answer, 400, "invalid_request")
    assert '"output" twice' in answer.json()["error"]


@pytest.mark.parametrize("rest", [b"", b"Content-Length: 1000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\nff\r\n{"])
def test_500_requests_that_never_end_hold_up_nobody(flooded: Served, rest: bytes) -> None:
    with ExitStack() as opened:
        wires = [opened.enter_context(flooded.http.wire()) for _ in range(500)]
        for wire in wires:
            wire.send(POST, rest)
        assert flooded.http.request("POST", PATHS[1], GOOD).status == 200
        for wire in wires[::2]:
            wire.socket.shutdown(socket.SHUT_RDWR)


def test_2000_connections_that_say_nothing_leave_nothing(flooded: Served) -> None:
    for _ in range(4):
        with ExitStack() as opened:
            for _ in range(500):
                opened.enter_context(flooded.http.wire())


LENGTHS = {
    "body too short": b"Content-Length: %d\r\n\r\n" % (len(GOOD) + 10) + GOOD,
    "body too long": b"Content-Length: %d\r\n\r\n" % (len(GOOD) - 10) + GOOD,
    "two lengths": b"Content-Length: %d\r\nContent-Length: 5\r\n\r\n" % len(GOOD) + GOOD,
    "one length twice": b"Content-Length: %d\r\n" % len(GOOD) * 2 + b"\r\n" + GOOD,
    "a list of lengths": b"Content-Length: 5, 5\r\n\r\nhello",
    "length and chunks": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunks and length": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "plus": b"Content-Length: +5\r\n\r\nhello",
    "hexadecimal": b"Content-Length: 0x5\r\n\r\nhello",
    "2^64": b"Content-Length: 18446744073709551616\r\n\r\nhello",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked before another": b"Transfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "space before the colon": b"Content-Length : 5\r\n\r\nhello",
    "folded": b"Content-Length:\r\n 5\r\n\r\nhello",
    "size with a sign": b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "size with a space": b"Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
    "chunk without its end": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    "bare line feeds": b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
}


@pytest.mark.parametrize("name", LENGTHS)
def test_length_unlike_the_body_never_makes_another_request(flooded: Served, name: str) -> None:
    marker = b"GET /v2/models/smuggled HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    with flooded.http.wire() as wire:
        pour(wire, POST, LENGTHS[name])
        pour(wire, marker)
        statuses = []
        while (answer := answer_or_end(wire)) is not None:
            statuses.append(answer.status)
    wanted = {
        "body too short": [
            400,
            400,
        ],  # the next request's first bytes are its last, and what is left over is no request
        "body too long": [400, 400],
        "one length twice": [200, 404],  # RFC 9112: equal lengths may be taken for one, and so the marker is a request
    }
    assert statuses == wanted.get(name, [400])


def test_a_million_fields_of_a_message_are_counted_as_they_come(flooded: Served) -> None:
    before = peak_kib(flooded)
    for field, words in ((b"\x2a\x00", "1024 inputs"), (b"\x3a\x00", "1024 inputs"), (b"\x32\x00", "`name`")):
        reply = flooded.grpc.infer_bytes(field * 1_000_000)
        assert (reply.status, reply.code()) == (StatusCode.INVALID_ARGUMENT, "invalid_request")
        assert words in reply.text
    unknown = flooded.grpc.infer_bytes(raw_request("echo_fp32", X).SerializeToString() + b"\xf2\x01\x00" * 1_000_000)
    assert unknown.status is StatusCode.OK
    assert peak_kib(flooded) <= before + 2 * LIMIT // 1_024


@pytest.mark.parametrize("model", ["echo_int8", "onnx_echo_int8"])
def test_messages_above_the_limit_are_refused_however_they_come(flooded: Served, model: str) -> None:
    large = {"x": np.zeros((1, LIMIT + 1), np.int8)}
    zeros = flooded.grpc.infer_binary(model, large)
    packed = flooded.grpc.infer_bytes(raw_request(model, large).SerializeToString(), compression=Compression.Gzip)
    for reply in (zeros, packed):
        assert (reply.status, reply.code()) == (StatusCode.RESOURCE_EXHAUSTED, "payload_too_large")
        assert len(reply.text) < 300


def test_1000_calls_that_are_given_up_leave_nothing(flooded: Served) -> None:
    request = raw_request("echo_fp32", X).SerializeToString()
    for _ in range(4):
        with flooded.grpc.connect() as channel:
            # gRPC 1.85 may never end a call that is cancelled while it connects, where the server limits streams.
            channel_ready_future(channel).result(timeout=30)
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            for future in [call.future(request, timeout=30) for _ in range(250)]:
                future.cancel()


@pytest.mark.parametrize("metadata", [{f"x-{n}": "1" for n in range(10_000)}, {"x": "y" * MIB}], ids=["many", "long"])
def test_endless_metadata_is_refused(flooded: Served, metadata: dict[str, str]) -> None:
    reply = flooded.grpc.infer_bytes(raw_request("echo_fp32", X).SerializeToString(), metadata)
    assert reply.status is not StatusCode.OK
