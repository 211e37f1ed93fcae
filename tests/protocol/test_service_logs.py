"""Lines and measures of services: whose request each line is of, one line per request, and what is counted."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from http_door import Http
from serving import Serve, Served, both_transports
from sockets import KEY, UPGRADE, Sockets
from watching import eventually, metric

WAYS = {"printed", "written", "warned", "logged"}


@pytest.fixture
def saying(serve: Serve) -> Served:
    """An engine with the service of apps/saying.py."""
    return serve("saying.py", options=["--spare-workers", "0"])


def post(http: Http, method: str, word: str) -> int:
    """A request whose id is its word."""
    return http.post(f"/saying/{method}", {"word": word}, x_request_id=f"id-{word}").status


def said(served: Served, word: str) -> dict[str, set[str]]:
    """The ways in which a word stands in the log, and the ids beside it."""
    found: dict[str, set[str]] = {}
    for line in served.log():
        match = re.search(rf"\b{word} (\w+)$", line["message"])
        if match:
            assert (line["model"], line["version"], line["instance"]) == ("saying", "1", 0)
            found.setdefault(match[1], set()).add(line.get("request_id", ""))
    return found


def access(lines: list[dict[str, Any]], path: str) -> dict[str, Any]:
    """The one line about a request to this path."""
    (line,) = [line for line in lines if line["message"] == "request" and line["path"] == path]
    return line


@both_transports
def test_every_line_of_a_handler_carries_its_request(saying: Served, background: ThreadPoolExecutor) -> None:
    assert post(saying.http, "once", "alone") == 200
    for method in ("together", "together_sync"):
        words = [f"{method}one", f"{method}two"]
        assert list(background.map(lambda word: post(saying.http, method, word), words)) == [200, 200]  # noqa: B023 - at once
    assert post(saying.http, "stream", "xy") == 200
    assert post(saying.http, "stream_sync", "zw") == 200
    tensor = {"name": "number", "datatype": "INT64", "shape": [1], "data": [77]}
    assert saying.http.post("/v2/models/saying.number/infer", {"id": "id-77", "inputs": [tensor]}).status == 200
    assert saying.stop() == 0
    for word, request in [("alone", "id-alone"), ("x", "id-xy"), ("y", "id-xy"), ("z", "id-zw"), ("77", "id-77")]:
        assert said(saying, word) == {way: {request} for way in WAYS}
    for method in ("together", "together_sync"):
        for word in (f"{method}one", f"{method}two"):
            for part in ("first", "then"):
                assert said(saying, f"{word} {part}") == {way: {f"id-{word}"} for way in WAYS}
    (line,) = [line for line in saying.log() if line["message"] == "loads"]
    assert "request_id" not in line


def test_lines_of_a_model_carry_the_request_of_the_service(saying: Served) -> None:
    assert saying.http.post("/saying/murmur", {"number": 41}, x_request_id="whose").json() == 41
    assert saying.stop() == 0
    lines = [line for line in saying.log() if line["message"] in ("murmured 41", "INFO logged 41")]
    assert len(lines) == 2
    assert {(line["model"], line["request_id"]) for line in lines} == {("murmuring", "whose")}


def test_each_request_of_a_service_leaves_one_access_line(serve: Serve) -> None:
    served = serve("typed.py", "mounted.py", "sockets.py", "streaming.py", options=["--spare-workers", "0"])
    http = served.http
    http.request("POST", "/typed/shout", b"word", {"content-type": "text/plain", "x-request-id": "one"})
    http.post("/typed/add", {"a": "x"})
    http.post("/typed/fail?secret=1", {"kind": "exception"})
    http.post("/streams/count", {"count": 3})
    http.post("/streams/through", {"count": 3, "fail": 1})
    with pytest.raises(Exception, match="IncompleteRead"):
        http.get("/raw/raise-later")
    with Sockets(served).open("echo") as socket:
        socket.send("four")
        socket.recv()
    with http.wire() as wire:
        Sockets(served).ask(wire, "echo", *UPGRADE, *KEY, "Origin: http://example.com")
        wire.answer()
    with http.wire() as wire:
        wire.send(b"POST /raw/digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\nbegun")
        eventually(lambda: metric(served, "samovar_in_flight", model="raw") == 1, "it runs")
    eventually(lambda: metric(served, "samovar_in_flight", model="raw") == 0, "it has ended")
    assert served.stop() == 0
    lines = served.log()
    shout = access(lines, "/typed/shout")
    assert shout["duration_ms"] > 0
    wanted = {"door": "http", "method": "POST", "status": 200, "model": "typed", "version": "1", "request_id": "one"}
    assert {**wanted, "bytes_in": 4, "bytes_out": 6}.items() <= shout.items()
    assert "code" not in shout
    assert access(lines, "/typed/add")["status"] == 422
    failed = access(lines, "/typed/fail")
    assert (failed["status"], failed["code"]) == (500, "model_error")
    stream = access(lines, "/streams/count")
    assert (stream["status"], stream["bytes_out"], stream["model"]) == (200, 6, "streams")
    assert access(lines, "/streams/through")["status"] == 200
    broken = access(lines, "/raw/raise-later")
    assert (broken["status"], broken["code"], broken["bytes_out"]) == (200, "model_error", 4)
    opened, refused = [line for line in lines if line["message"] == "request" and line["path"] == "/sockets/echo"]
    assert (opened["status"], opened["bytes_in"] > 4, opened["bytes_out"] > 4) == (101, True, True)
    assert (refused["status"], refused["code"]) == (403, "forbidden_origin")
    left = access(lines, "/raw/digest")
    assert (left["status"], left["code"], left["bytes_in"]) == (400, "invalid_request", 5)


def test_a_client_that_goes_away_is_no_error_of_the_program(serve: Serve) -> None:
    served = serve("mounted.py", "streaming.py", "sockets.py", options=["--spare-workers", "0"])
    with served.http.wire() as wire:
        wire.send(b"GET /raw/unsized/4000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wire.head()
    with served.http.wire() as wire:
        wire.send(b"GET /streams/items?count=1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wire.head()
    with served.http.wire() as wire:
        Sockets(served).ask(wire, "pour/4000")
        wire.head()
    eventually(lambda: metric(served, "samovar_in_flight") == 0, "all have ended")
    assert served.stop() == 0
    assert [line for line in served.log() if line["level"] != "INFO"] == []
    gone = [line for line in served.log() if line["message"] == "request" and line["path"] != "/metrics"]
    assert [line["code"] for line in gone] == ["cancelled"] * 3


def test_requests_are_counted_for_the_service_by_what_became_of_them(serve: Serve) -> None:
    served = serve("typed.py", "mounted.py", "sockets.py", options=["--spare-workers", "0"])

    def count(model: str, code: str) -> float:
        return metric(served, "samovar_requests_total", model=model, door="http", code=code)

    for _ in range(3):
        served.http.post("/typed/add", {"a": 1})
    served.http.post("/typed/fail", {"kind": "exception"})
    assert (count("typed", "ok"), count("typed", "model_error")) == (3, 1)
    served.http.get("/raw/short")
    with pytest.raises(Exception, match="IncompleteRead"):
        served.http.get("/raw/half")
    served.http.request("POST", "/raw/digest", b"a", {"content-encoding": "br"})
    assert count("raw", "bad_model_output") == 1
    assert count("raw", "model_error") == 1
    assert count("raw", "unsupported_media_type") == 1
    with Sockets(served).open("echo") as socket:
        socket.send("a")
        socket.recv()
    eventually(lambda: count("sockets", "ok") == 1, "the socket is counted when it has ended")
    assert metric(served, "samovar_request_seconds_count", model="typed") == 4


@both_transports
def test_what_handlers_measure_stands_with_the_engines_labels(saying: Served, background: ThreadPoolExecutor) -> None:
    for _ in range(3):
        assert post(saying.http, "once", "alone") == 200
        assert saying.http.post("/saying/murmur", {"number": 1}).status == 200
    assert sorted(background.map(lambda word: post(saying.http, "together_sync", word), ("one", "three"))) == [200, 200]
    text = saying.http.get("/metrics").body.decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    of_service = (("instance", "0"), ("model", "saying"), ("version", "1"))
    assert samples["words_total", ("how", "async"), *of_service] == 3
    assert samples["words_total", ("how", "sync"), *of_service] == 4
    assert samples["lengths", ("how", "async"), *of_service] == len("alone")
    assert samples["murmurs_total", ("instance", "0"), ("model", "murmuring"), ("version", "1")] == 3
    assert metric(saying, "samovar_requests_total", model="murmuring", door="step", code="ok") == 3


def test_a_metric_that_many_threads_ask_for_first_is_made_once(saying: Served, background: ThreadPoolExecutor) -> None:
    words = [str(number) for number in range(16)]
    assert set(background.map(lambda word: post(saying.http, "together_sync", word), words)) == {200}
    assert metric(saying, "words_total", model="saying", how="sync") == 32


def test_numbers_of_tensors_and_of_paths_are_counted_apart(saying: Served) -> None:
    saying.http.infer("saying.number", {"number": np.array([1])})
    saying.http.post("/saying/number", {"number": 1})
    assert metric(saying, "samovar_requests_total", model="saying.number", door="http", code="ok") == 1
    assert metric(saying, "samovar_requests_total", model="saying", door="http", code="ok") == 1
    assert metric(saying, "words_total", model="saying", how="tensor") == 2
