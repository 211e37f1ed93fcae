"""WebSockets of mounted applications: messages both ways, and every way in which one begins and ends."""

import json
import os

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.sync.client import connect

from protocol.uploads import error
from serving import Served
from sockets import KEY, UPGRADE, Sockets, masked
from watching import eventually, metric

ENOUGH = Close(4_001, "enough")


@pytest.fixture
def sockets(services: Served) -> Sockets:
    """WebSockets of the engine for questions, over each transport."""
    return Sockets(services)


def is_echoing(sockets: Sockets) -> bool:
    with sockets.open("echo") as socket:
        socket.send("still")
        return socket.recv() == "still"


def test_messages_of_every_size_and_kind_come_back(sockets: Sockets) -> None:
    with sockets.open("echo") as socket:
        for size in (0, 1, 125, 126, 65_535, 65_536, 3_000_000):
            for message in ("\u00fc" * (size // 2), os.urandom(size)):
                socket.send(message)
                assert socket.recv() == message
        socket.send(iter(["many ", "frames ", "of one ", "message"]))
        assert socket.recv() == "many frames of one message"
        for number in range(200):
            socket.send(str(number))
        assert [socket.recv() for _ in range(200)] == list(map(str, range(200)))


def test_a_client_without_compression_is_served(sockets: Sockets) -> None:
    with sockets.open("echo", compression=None) as socket:
        socket.send(b"a" * 100_000)
        assert socket.recv() == b"a" * 100_000


def test_protocol_and_headers_of_both_sides_reach_the_other(sockets: Sockets) -> None:
    more = {"X-Mine": "b", "Authorization": "c"}
    with sockets.open("choose", subprotocols=["one", "two"], additional_headers=more) as socket:
        assert socket.subprotocol == "two"
        assert socket.response is not None
        assert socket.response.headers["x-mine"] == "yes"
        assert socket.response.headers["x-request-id"]
        told = json.loads(socket.recv())
    assert (told["type"], told["scheme"]) == ("websocket", "ws")
    assert (told["path"], told["root_path"]) == ("/sockets/choose", "/sockets")
    assert (told["subprotocols"], told["query"]) == (["one", "two"], sockets.key)
    assert (told["headers"]["x-mine"], told["headers"]["authorization"]) == ("b", "c")


def test_an_application_that_returns_closes_its_socket(sockets: Sockets) -> None:
    with sockets.open("choose") as socket:
        socket.recv()
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd == Close(1_000, "")


@pytest.mark.parametrize("code", [1_000, 1_008, 4_001])
def test_the_close_of_an_application_reaches_the_client(sockets: Sockets, code: int) -> None:
    with sockets.open(f"close/{code}") as socket:
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd == Close(code, "enough")


def test_a_close_is_read_by_a_client_that_was_still_sending(sockets: Sockets) -> None:
    with sockets.served.http.wire() as wire:
        sockets.ask(wire, "close/4001")
        assert wire.head()[0] == 101
        wire.send(*[masked(0x2, b"a" * 100)] * 10_000)
        assert wire.read(10) == b"\x88\x08\x0f\xa1enough"
        wire.send(masked(0x8, b"\x0f\xa1"))
        assert wire.ended()


def test_the_close_of_a_client_reaches_the_application(sockets: Sockets) -> None:
    with sockets.open("echo") as socket:
        socket.close(ENOUGH.code, ENOUGH.reason)
        assert socket.protocol.close_rcvd == ENOUGH
    sockets.wait("websocket.disconnect 4001 enough")
    with sockets.open("echo") as socket:
        socket.close()
    sockets.wait("websocket.disconnect 1000")
    with sockets.served.http.wire() as wire:
        sockets.ask(wire, "echo")
        wire.head()
        wire.send(masked(0x8, b""))
        assert wire.read(2) == b"\x88\x00"
        assert wire.ended()
    sockets.wait("websocket.disconnect 1005")


@pytest.mark.parametrize("more", [b"", b"\x82", masked(0x2, b"some", fin=False)])
def test_a_client_that_vanishes_is_a_disconnect_to_the_application(sockets: Sockets, more: bytes) -> None:
    with sockets.served.http.wire() as wire:
        sockets.ask(wire, "echo")
        assert wire.head()[0] == 101
        sockets.wait("accepted")
        wire.send(more)
    sockets.wait("websocket.disconnect 1006")
    eventually(lambda: metric(sockets.served, "samovar_in_flight", model="sockets") == 0, "its slot is free")


def test_an_application_that_listens_to_nobody_is_cancelled_when_its_client_vanishes(service: Served) -> None:
    sockets = Sockets(service)
    with sockets.served.http.wire() as wire:
        sockets.ask(wire, "hang")
        assert wire.head()[0] == 101
        sockets.wait("accepted")
    sockets.wait("cancelled")


def test_a_ping_is_answered(sockets: Sockets) -> None:
    with sockets.open("echo") as socket:
        assert socket.ping().wait(20)
        socket.send("still")
        assert socket.recv() == "still"


def test_a_refusal_is_an_answer_of_http(sockets: Sockets) -> None:
    with pytest.raises(InvalidStatus) as refused:
        sockets.open("refuse")
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        sockets.open("deny")
    answer = refused.value.response
    assert (answer.status_code, answer.headers["x-why"]) == (429, "full")
    with sockets.served.http.wire() as wire:
        sockets.ask(wire, "deny")
        assert wire.answer().body == b"come later"


@pytest.mark.parametrize("path", ["fail", "nothing"])
def test_an_application_that_fails_before_it_accepts_is_an_error_of_http(sockets: Sockets, path: str) -> None:
    with sockets.served.http.wire() as wire:
        sockets.ask(wire, path)
        answer = wire.answer()
        assert (answer.status, error(answer)["code"]) == (500, "model_error")
    assert is_echoing(sockets)


def test_an_application_that_fails_later_is_a_close_with_1011(sockets: Sockets) -> None:
    with sockets.open("fail_later") as socket:
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1_011
    assert is_echoing(sockets)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (masked(0x3, b""), 1_002),  # no such opcode
        (masked(0x1, b"\xff"), 1_007),  # no UTF-8
        (masked(0x0, b"a"), 1_002),  # goes on with nothing
        (masked(0x9, b"a", fin=False), 1_002),  # a ping in pieces
        (masked(0x8, b"\x00"), 1_002),  # half a close code
        (bytes([0x81, 0x01]) + b"a", 1_002),  # no mask
        (bytes([0x82, 0xFF]) + (1 << 40).to_bytes(8), 1_009),  # too large
    ],
)
def test_frames_that_are_none_close_the_socket_with_the_code_for_it(sockets: Sockets, frames: bytes, code: int) -> None:
    with sockets.served.http.wire() as wire:
        sockets.ask(wire, "echo")
        assert wire.head()[0] == 101
        wire.send(frames)
        head = wire.read(2)
        assert head[0] == 0x88, "a close"
        assert int.from_bytes(wire.read(head[1])[:2]) == code
        assert wire.ended()
    sockets.wait(f"websocket.disconnect {code}")
    assert is_echoing(sockets)


def test_a_page_of_another_origin_opens_no_socket(sockets: Sockets) -> None:
    with pytest.raises(InvalidStatus) as refused:
        sockets.open("echo", origin="http://example.com")
    assert refused.value.response.status_code == 403
    with sockets.open("echo", origin=f"http://127.0.0.1:{sockets.served.port}") as socket:
        socket.send("ours")
        assert socket.recv() == "ours"
    with sockets.served.http.wire() as wire:
        wire.send(b"GET /sockets/echo HTTP/1.1\r\nHost: example.com\r\n")
        wire.send("\r\n".join([*UPGRADE, *KEY, "", ""]).encode())
        answer = wire.answer()
        assert (answer.status, error(answer)["code"]) == (421, "forbidden_host")
    assert sockets.notes().count("accepted") == 1


@pytest.mark.parametrize("path", ["echo", "choose"])
@pytest.mark.parametrize(
    "headers", [("Sec-WebSocket-Version: 12", KEY[1]), KEY[:1], (KEY[0], "Sec-WebSocket-Key: short")], ids=str
)
def test_a_handshake_that_is_none_is_refused(sockets: Sockets, headers: tuple[str, ...], path: str) -> None:
    with sockets.served.http.wire() as wire:
        sockets.ask(wire, path, *UPGRADE, *headers)
        assert wire.answer().status in (400, 426)
    assert is_echoing(sockets)


def test_no_other_path_or_protocol_leaves_http(sockets: Sockets) -> None:
    for path in ("/v2/health/live", "/nowhere", "/typed/nothing", "/typed/docs"):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{sockets.served.port}{path}", proxy=None)
        assert refused.value.response.status_code in (200, 403, 404), path
    with sockets.served.http.wire() as wire:
        sockets.ask(wire, "echo", "Upgrade: h2c", "Connection: Upgrade")
        assert wire.answer().status == 404, "the application got an ordinary request"
