"""Bodies on their way to a service: whole or as they come, of known length or not, wanted or not."""

import gzip
import json
from collections.abc import Iterator

import pytest

from http_door import Wire
from protocol.uploads import digest, error
from serving import Serve, Served, both_transports

PIECE = bytes(range(256)) * 256  # 64 KiB


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def is_alive(wire: Wire) -> bool:
    """The connection serves another request."""
    wire.send(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return wire.answer().status == 200


@pytest.mark.parametrize("size", [0, 1, 65_536, 8 << 20, (9 << 20) + 3])
def test_a_body_of_known_length_arrives_whole(services: Served, size: int) -> None:
    data = (PIECE * (size // len(PIECE) + 1))[:size]
    with services.http.wire() as wire:
        for _ in range(2):
            wire.send(head("/raw/digest", f"Content-Length: {size}"), data)
            assert json.loads(wire.answer().body) == [size, digest(data)]


@pytest.mark.parametrize("pieces", [[], [b"a"], [b"a", b"b" * 70_000, b"c"], [PIECE] * 160])
def test_a_body_of_unknown_length_arrives_whole(services: Served, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    with services.http.wire() as wire:
        for _ in range(2):
            wire.send(head("/raw/digest", "Transfer-Encoding: chunked"), *map(chunk, pieces), b"0\r\n\r\n")
            assert json.loads(wire.answer().body) == [len(whole), digest(whole)]
    answer = services.http.request("POST", "/typed/digest", whole, {"content-type": "application/octet-stream"})
    assert answer.json()["digest"] == digest(whole)


def test_both_bodies_go_on_at_a_time(services: Served) -> None:
    with services.http.wire() as wire:
        wire.send(head("/raw/echo", "Transfer-Encoding: chunked"))
        assert wire.head()[0] == 200, "the answer begins before the body does"
        for number in range(300):
            data = b"%d" % number
            wire.send(chunk(data))
            assert wire.chunk() == data, "and goes on with it"
        wire.send(b"0\r\n\r\n")
        assert wire.chunk() == b""
        assert is_alive(wire)


def test_as_much_may_be_on_its_way_as_a_client_likes(services: Served) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(320):
            yield PIECE

    connection = services.http.connect()
    connection.request("POST", "/raw/digest", parts(), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert json.loads(connection.getresponse().read()) == [320 * len(PIECE), digest(PIECE * 320)]
    connection.close()


def test_a_compressed_body_arrives_as_it_was(services: Served) -> None:
    data = PIECE * 4
    for kind in ("raw", "typed"):
        named = {"content-encoding": "gzip", "content-type": "application/octet-stream"}
        answer = services.http.request("POST", f"/{kind}/digest", gzip.compress(data), named)
        assert digest(data) in answer.body.decode()
    with services.http.wire() as wire:
        packed = gzip.compress(data)
        wire.send(head("/raw/digest", "Content-Encoding: gzip", "Transfer-Encoding: chunked"))
        wire.send(*[chunk(packed[at : at + 99]) for at in range(0, len(packed), 99)], b"0\r\n\r\n")
        assert json.loads(wire.answer().body) == [len(data), digest(data)]
    seen = services.http.request("GET", "/raw/seen", gzip.compress(b"a"), {"content-encoding": "gzip"}).json()
    assert not {"content-encoding", "content-length"} & {name for name, _ in seen["headers"]}
    answer = services.http.request("POST", "/raw/digest", b"no gzip", {"content-encoding": "gzip"})
    assert (answer.status, error(answer)["code"]) == (400, "invalid_request")
    answer = services.http.request("POST", "/raw/digest", b"a", {"content-encoding": "br"})
    assert (answer.status, error(answer)["code"]) == (415, "unsupported_media_type")


def test_a_client_that_asks_first_is_told_to_go_on_when_its_body_is_wanted(services: Served) -> None:
    with services.http.wire() as wire:
        wire.send(
            head("/typed/digest", "Expect: 100-continue", "Content-Length: 4", "Content-Type: application/octet-stream")
        )
        assert wire.answer().status == 100
        wire.send(b"data")
        assert wire.answer().json()["digest"] == digest(b"data")
        wire.send(head("/raw/echo", "Expect: 100-continue", "Transfer-Encoding: chunked"))
        assert wire.answer().status == 100
        wire.send(chunk(b"data"), b"0\r\n\r\n")
        assert wire.answer().body == b"data"
        assert is_alive(wire)


def test_a_client_that_asks_first_is_refused_before_it_sends(services: Served) -> None:
    with services.http.wire() as wire:
        wire.send(head("/raw/digest", "Expect: 100-continue", f"Content-Length: {1 << 40}"))
        assert wire.answer().status == 413


def test_an_answer_that_does_not_want_the_body_does_not_wait_for_it(services: Served) -> None:
    with services.http.wire() as wire:
        wire.send(head("/raw/other", "Transfer-Encoding: chunked"), chunk(b"begun"))
        answer = wire.answer()
        assert (answer.status, answer.body, answer.headers["connection"]) == (404, b"mine", "close")
    with services.http.wire() as wire:
        wire.send(head("/raw/other", "Content-Length: 5"), b"whole")
        assert wire.answer().status == 404
        assert is_alive(wire)


@both_transports
def test_a_body_beyond_the_limit_is_refused_wherever_it_is_noticed(serve: Serve) -> None:
    served = serve("typed.py", "mounted.py", options=["--max-body-bytes", "100000"])
    kind = {"content-type": "application/octet-stream"}
    for path in ("/typed/digest", "/raw/digest"):
        answer = served.http.request("POST", path, bytes(100_001), kind)
        assert (answer.status, error(answer)["code"]) == (413, "payload_too_large")
        answer = served.http.request("POST", path, gzip.compress(bytes(100_001)), {**kind, "content-encoding": "gzip"})
        assert (answer.status, error(answer)["code"]) == (413, "payload_too_large")
        with served.http.wire() as wire:
            chunks = [chunk(bytes(30_000)) for _ in range(4)]
            wire.send(head(path, "Transfer-Encoding: chunked", "Content-Type: application/octet-stream"), *chunks)
            assert wire.answer().status == 413
        assert served.http.request("POST", path, bytes(100_000), kind).status == 200
    with served.http.wire() as wire:
        wire.send(head("/raw/echo", "Transfer-Encoding: chunked"), chunk(bytes(30_000)))
        assert wire.head()[0] == 200
        wire.send(*[chunk(bytes(30_000)) for _ in range(4)])
        with pytest.raises((EOFError, ConnectionResetError)):
            list(iter(wire.chunk, b""))


def test_a_client_that_goes_away_in_its_body_leaves_a_service_that_serves(services: Served) -> None:
    for path in ("/typed/digest", "/raw/digest", "/raw/echo"):
        for framing in ("Content-Length: 9000000", "Transfer-Encoding: chunked"):
            with services.http.wire() as wire:
                wire.send(head(path, framing, "Content-Type: application/octet-stream"), chunk(b"begun"))
        assert services.http.request("POST", "/raw/digest", b"whole").json() == [5, digest(b"whole")]
