"""Methods that yield: items as they are made, in lines or events, and faults where they happen."""

import json
from pathlib import Path

import h2.events
import pytest

from h2_wire import H2Wire
from protocol.streams import METHODS, Streams, lines
from protocol.uploads import error
from serving import Served
from watching import eventually, metric

EVENTS = "text/event-stream"


@pytest.fixture
def streams(services: Served, tmp_path: Path) -> Streams:
    """Streams of the engine for questions, over each transport."""
    return Streams.of(services, tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_items_are_json_lines_or_events_as_the_client_accepts(streams: Streams, method: str) -> None:
    assert lines(streams.ask(method, 3)) == [0, 1, 2]
    assert lines(streams.ask(method, 0)) == []
    answer = streams.ask(method, 2, accept=EVENTS)
    assert (answer.headers["content-type"], answer.body) == (EVENTS, b"data: 0\n\ndata: 1\n\n")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("application/json", "application/x-ndjson"),
        ("text/*", EVENTS),
        ("text/event-stream;q=0.5, application/x-ndjson;q=0.4", EVENTS),
        ("text/event-stream;q=0.4, */*;q=0.5", "application/x-ndjson"),
        ("", "application/x-ndjson"),
    ],
)
def test_the_form_that_is_liked_best_is_sent(streams: Streams, accept: str, media: str) -> None:
    assert streams.ask("count", 1, accept=accept).headers["content-type"] == media


def test_items_may_be_objects(streams: Streams) -> None:
    answer = streams.served.http.get("/streams/items?count=2")
    assert lines(answer) == [{"number": 0, "halves": [0.0]}, {"number": 1, "halves": [0.5]}]
    head = streams.served.http.request("HEAD", "/streams/items")
    assert (head.status, head.body) == (200, b"")
    assert streams.served.http.get("/streams/items?count=x").status == 422


@pytest.mark.parametrize("method", METHODS)
def test_an_item_is_sent_when_it_is_made(streams: Streams, method: str) -> None:
    with streams.served.http.wire() as wire:
        streams.begin(wire, method, 3, hold=1)
        assert wire.head()[0] == 200
        assert wire.chunk() == b"0\n"
        assert streams.notes()[1:] == ["made 0"], "while the next is not made"
        streams.go()
        rest = b"".join(iter(wire.chunk, b""))
        assert rest == b"1\n2\n"
        streams.wait("closed")


@pytest.mark.parametrize("method", METHODS)
def test_a_fault_before_the_first_item_has_a_status(streams: Streams, method: str) -> None:
    answer = streams.ask(method, 3, fail=0)
    told = error(answer)
    assert (answer.status, told["code"]) == (500, "model_error")
    assert "number 0 is not there" in told["error"]
    assert streams.ask(method, -1).status == 200, "no item is no fault"
    assert streams.served.http.post("/streams/count", {"count": "x"}).status == 422
    answer = streams.served.http.post("/streams/misfits", {"first": 0})
    assert (answer.status, error(answer)["code"]) == (500, "bad_model_output")


@pytest.mark.parametrize("method", METHODS)
def test_a_fault_in_the_middle_is_the_last_line(streams: Streams, method: str) -> None:
    answer = streams.ask(method, 3, fail=2)
    *items, told = lines(answer)
    assert (items, told["code"], told["id"]) == ([0, 1], "model_error", answer.headers["x-request-id"])
    assert "number 2 is not there" in told["error"]
    body = streams.ask(method, 3, fail=1, accept=EVENTS).body
    assert body.startswith(b"data: 0\n\nevent: error\ndata: {")
    assert json.loads(body.rpartition(b"data: ")[2])["code"] == "model_error"


def test_an_item_that_does_not_fit_is_a_fault_of_the_method(streams: Streams) -> None:
    *items, told = lines(streams.served.http.post("/streams/misfits", {"first": 2}))
    assert (items, told["code"]) == ([0, 1], "bad_model_output")
    assert "Streams.misfits: the result is str" in told["error"]


@pytest.mark.parametrize("method", METHODS)
def test_a_client_that_goes_away_ends_the_generator(streams: Streams, method: str) -> None:
    with streams.served.http.wire() as wire:
        streams.begin(wire, method, 1_000_000, **until_it_ends(method))
        assert wire.head()[0] == 200
        assert wire.chunk() == b"0\n"
    streams.wait("closed")
    eventually(lambda: metric(streams.served, "samovar_in_flight") == 0, "every slot is free")
    assert len(streams.notes()) < 500_000
    assert lines(streams.ask(method, 1)) == [0]


@pytest.mark.parametrize("method", METHODS)
def test_a_cancelled_stream_of_http_2_ends_the_generator(streams: Streams, method: str) -> None:
    path, body = streams.body(method, 1_000_000, **until_it_ends(method))
    with H2Wire(streams.served.port) as wire:
        stream = wire.open("POST", path, {"content-type": "application/json"})
        wire.h2.send_data(stream, json.dumps(body).encode(), end_stream=True)
        wire.flush()
        assert wire.wait(h2.events.DataReceived, stream).data.startswith(b"0\n")
        wire.h2.reset_stream(stream)
        wire.flush()
        streams.wait("closed")
        assert wire.answer(wire.open("GET", "/streams/items", end=True))[0][":status"] == "200"


def until_it_ends(method: str) -> dict[str, int]:
    """A coroutine ends where it waits, a plain generator between two items."""
    return {"hold": 1} if method in ("count", "through_async") else {}


def test_http_1_0_gets_a_stream_to_its_end(streams: Streams) -> None:
    with streams.served.http.wire() as wire:
        wire.send(b"GET /streams/items HTTP/1.0\r\n\r\n")
        assert wire.head()[0] == 200
        assert wire.read(1_000) == b'{"number":0,"halves":[0.0]}\n{"number":1,"halves":[0.5]}\n'


def test_a_connection_goes_on_after_a_stream(streams: Streams) -> None:
    with streams.served.http.wire() as wire:
        for count in (3, 0, 1, 2):
            streams.begin(wire, "count", count)
            assert wire.answer().body.splitlines() == [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("model", ["counting", "async_counting"])
def test_the_parts_of_a_model_are_joined_for_those_who_want_one_answer(streams: Streams, model: str) -> None:
    served = streams.served
    for count in (3, 1, 0, 300):
        inputs = streams.infer(model, count)
        for infer in (served.http.infer, served.http.infer_binary, served.grpc.infer):
            assert infer(model, inputs).arrays()["output"].tolist() == list(range(count))
    failing = streams.infer(model, 3, fail=2)
    answer = served.http.infer(model, failing)
    assert (answer.status, answer.code()) == (500, "model_error")
    assert served.grpc.infer(model, failing).code() == "model_error"
    assert served.http.get(f"/v2/models/{model}").json()["outputs"][0]["shape"] == [-1]
