"""Answers of applications that the engine did not write: as they are, where HTTP has them, and else refused."""

import json
from pathlib import Path
from typing import Any

import h2.errors
import h2.events
import pytest

from h2_wire import H2Wire
from http_door import Wire
from protocol.uploads import error
from serving import Serve, Served
from watching import eventually

PIECE = b"0123456789abcdef" * 4_096


def get(wire: Wire, path: str, version: str = "1.1", method: str = "GET") -> None:
    wire.send(f"{method} {path} HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())


def seen(served: Served, target: str, *headers: str) -> dict[str, Any]:
    """What the application sees of a request."""
    with served.http.wire() as wire:
        wire.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode("latin-1"))
        told: dict[str, Any] = wire.answer().json()
        return told


def test_an_application_sees_the_request_as_it_was_sent(services: Served) -> None:
    told = seen(services, "/raw/seen/a%20b%2Fc?x=1&y=%20", "X-Two: a", "x-two: b", "Accept: \xe9")
    assert (told["type"], told["method"], told["http_version"], told["scheme"]) == ("http", "GET", "1.1", "http")
    assert (told["path"], told["root_path"]) == ("/raw/seen/a b/c", "/raw")
    assert (told["raw_path"], told["query_string"]) == ("/raw/seen/a%20b%2Fc", "x=1&y=%20")
    host, port = told["client"]
    assert (host, port > 0) == ("127.0.0.1", True)
    assert told["headers"] == [["host", "localhost"], ["x-two", "a"], ["x-two", "b"], ["accept", "\xe9"]]


def test_headers_of_the_connection_stay_with_it(services: Served) -> None:
    about_it = [
        "Keep-Alive: 1",
        "TE: trailers",
        "Trailer: a",
        "Proxy-Connection: a",
        "Proxy-Authorization: b",
        "Upgrade: h2c",
    ]
    told = seen(services, "/raw/seen", "Connection: keep-alive, x-mine", *about_it, "X-Mine: a", "Authorization: c")
    assert told["headers"] == [["host", "localhost"], ["x-mine", "a"], ["authorization", "c"]]
    answer = services.http.get("/raw/headers/hop")
    assert (answer.status, answer.body) == (200, b"ok")
    assert not {"connection", "keep-alive", "transfer-encoding"} & answer.headers.keys()


@pytest.mark.parametrize("status", [200, 204, 304, 404, 418, 503, 599])
def test_an_empty_answer_is_empty_and_the_connection_goes_on(services: Served, status: int) -> None:
    with services.http.wire() as wire:
        for _ in range(2):
            get(wire, f"/raw/status/{status}")
            answer = wire.answer()
            assert (answer.status, answer.body) == (status, b"")
            assert ("content-length" in answer.headers) == (status not in (204, 304))
            assert "transfer-encoding" not in answer.headers


def test_an_answer_of_known_length_keeps_it(services: Served) -> None:
    with services.http.wire() as wire:
        for count in (1, 80):
            get(wire, f"/raw/sized/{count}")
            answer = wire.answer()
            assert answer.headers["content-length"] == str(count * len(PIECE))
            assert answer.body == PIECE * count
        get(wire, "/raw/sized/80", method="HEAD")
        assert wire.answer(head_only=True).headers["content-length"] == str(80 * len(PIECE))
        get(wire, "/raw/unsized/80")
        answer = wire.answer()
        assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", PIECE * 80)
        get(wire, "/raw/unsized/0")
        assert wire.answer().body == b""


def test_http_1_0_gets_its_answer_and_its_end(services: Served) -> None:
    for path, body in (("sized/3", PIECE * 3), ("unsized/3", PIECE * 3), ("other", b"mine")):
        with services.http.wire() as wire:
            get(wire, f"/raw/{path}", version="1.0")
            status, headers = wire.head()
            assert status == (404 if path == "other" else 200)
            assert "transfer-encoding" not in headers
            assert wire.read(len(body)) == body
            assert wire.ended()
    with services.http.wire() as wire:
        wire.send(b"GET /raw/seen HTTP/1.0\r\n\r\n")
        assert wire.answer().json()["http_version"] == "1.0"


@pytest.mark.parametrize("path", ["short", "long", "headers/lengths", "headers/words", "headers/many"])
def test_an_answer_with_a_false_length_or_too_many_headers_is_none(services: Served, path: str) -> None:
    with services.http.wire() as wire:
        get(wire, f"/raw/{path}")
        answer = wire.answer()
        assert (answer.status, error(answer)["code"]) == (500, "bad_model_output")
        get(wire, "/raw/status/200")
        assert wire.answer().status == 200


@pytest.mark.parametrize("kind", ["value", "name", "space", "zero"])
def test_no_header_reaches_a_client_that_an_application_smuggles_in(services: Served, kind: str) -> None:
    with services.http.wire() as wire:
        get(wire, f"/raw/headers/{kind}")
        answer = wire.answer()
        assert (answer.status, error(answer)["code"]) == (500, "bad_model_output")
        assert not {"set-cookie", "x-mine"} & answer.headers.keys()
        assert "x-mine" in answer.body.decode().replace("x mine", "x-mine")


def test_headers_that_stand_there_twice_stay_so(services: Served) -> None:
    connection = services.http.connect()
    connection.request("GET", "/raw/headers/cookies")
    response = connection.getresponse()
    assert response.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert response.headers["x-mixed-case"] == "\xe9"
    connection.close()


@pytest.mark.parametrize("path", ["short-later", "long-later", "half", "raise-later"])
def test_an_answer_that_goes_wrong_in_its_middle_breaks_off(services: Served, path: str) -> None:
    with services.http.wire() as wire:
        get(wire, f"/raw/{path}")
        status, headers = wire.head()
        assert status == 200
        if "content-length" in headers:
            assert len(wire.read(9)) < int(headers["content-length"])
        else:
            assert wire.chunk() == b"half"
            with pytest.raises(EOFError):
                wire.chunk()
    assert services.http.get("/raw/status/200").status == 200


@pytest.mark.parametrize(("path", "text"), [("raise", "before the answer"), ("twice", "twice"), ("nothing", "whole")])
def test_an_application_that_fails_before_its_answer_gets_one(services: Served, path: str, text: str) -> None:
    answer = services.http.get(f"/raw/{path}")
    told = error(answer)
    assert (answer.status, told["code"]) == (500, "model_error")
    assert text in told["error"]


def test_what_goes_wrong_after_an_answer_is_for_the_log(serve: Serve) -> None:
    served = serve("mounted.py")
    workers = served.workers()
    for path, text in (("raise-after", "after the answer"), ("send-after", "after the end of the response")):
        answer = served.http.request("GET", f"/raw/{path}", headers={"x-request-id": path})
        assert (answer.status, answer.body) == (200, b"")
        found = lambda: [line for line in served.log() if "Error: " in line["message"] and text in line["message"]]  # noqa: B023,E731
        (line,) = eventually(found, "it is logged")
        assert (line["model"], line["request_id"]) == ("raw", path)
    assert served.workers() == workers


def test_the_root_of_an_application_ends_with_a_slash(services: Served) -> None:
    answer = services.http.get("/raw?x=1")
    assert (answer.status, answer.headers["location"]) == (307, "/raw/?x=1")
    assert services.http.get("/raw/").body == b"mine"
    assert services.http.get("/rawer").code() == "not_found"


def test_an_application_is_told_of_its_start_and_end(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "living"
    served = serve("mounted.py", environment={"LIVING_FILE": str(file)})
    assert file.read_text() == "startup\n"
    assert served.http.get("/living/inside/").body == b"at the start"
    assert served.stop() == 0
    assert file.read_text() == "startup\nshutdown\n"


def test_answers_over_http_2_are_the_same(services: Served) -> None:
    with H2Wire(services.port) as wire:
        asked = {
            path: wire.open("GET", f"/raw/{path}", end=True)
            for path in ("sized/40", "unsized/3", "status/204", "other")
        }
        headers, body = wire.answer(asked["sized/40"])
        assert (headers[":status"], headers["content-length"], body) == ("200", str(40 * len(PIECE)), PIECE * 40)
        headers, body = wire.answer(asked["unsized/3"])
        assert (headers[":status"], body) == ("200", PIECE * 3)
        assert "transfer-encoding" not in headers
        assert wire.answer(asked["status/204"])[0][":status"] == "204"
        assert wire.answer(asked["other"])[1] == b"mine"
        _, body = wire.answer(wire.open("GET", "/raw/seen", {"cookie": "a=1", "x-mine": "b"}, end=True))
        told = json.loads(body)
        assert told["http_version"] == "2"
        assert dict(told["headers"]) == {"host": "localhost", "cookie": "a=1", "x-mine": "b"}


def test_both_bodies_go_on_at_a_time_over_http_2(services: Served) -> None:
    with H2Wire(services.port) as wire:
        stream = wire.open("POST", "/raw/echo")
        wire.wait(h2.events.ResponseReceived, stream)
        for number in range(5):
            wire.h2.send_data(stream, b"%d" % number)
            wire.flush()
            eventually(lambda: b"%d" % number in received(wire, stream), "it comes back")  # noqa: B023 - called at once
        wire.h2.end_stream(stream)
        wire.flush()
        assert wire.answer(stream)[1] == b"01234"


def received(wire: H2Wire, stream: int) -> bytes:
    """The body so far; reads on."""
    wire.receive()
    mine = [event for event in wire.events if isinstance(event, h2.events.DataReceived) and event.stream_id == stream]
    return b"".join(event.data for event in mine)


def test_a_broken_answer_over_http_2_costs_its_stream_alone(services: Served) -> None:
    with H2Wire(services.port) as wire:
        stream = wire.open("GET", "/raw/raise-later", end=True)
        reset = wire.wait(h2.events.StreamReset, stream)
        assert reset.error_code == h2.errors.ErrorCodes.INTERNAL_ERROR
        assert wire.answer(wire.open("GET", "/raw/status/200", end=True))[0][":status"] == "200"
