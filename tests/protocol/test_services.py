"""Every form in which a typed service takes its inputs and gives its result, through the engine."""

import json
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from http_door import Answer
from protocol.uploads import MULTIPART, digest, form, picture, post
from serving import APPS, Served

URLENCODED = "application/x-www-form-urlencoded"
MOVED = {"name": "home", "at": [3.5, 2.0], "tags": {"a": "b"}}
PLACE = {"name": "home", "at": [1, 2.0], "tags": {"a": "b"}}


def result(answer: Answer) -> object:
    """The JSON of a good answer."""
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
    return answer.json()


def test_inputs_come_as_a_json_object(services: Served) -> None:
    assert result(services.http.post("/typed/add", {"a": 2, "b": 3})) == 5
    assert result(services.http.post("/typed/add", {"a": 2})) == 3
    assert result(services.http.post("/typed/move", {"place": PLACE, "by": [2.0, 0.5]})) == MOVED
    moved = result(services.http.post("/typed/move", {"place": PLACE, "unit": "mi"}))
    assert moved == {**MOVED, "at": [1610.344, 2.0]}


def test_inputs_come_as_the_fields_of_a_form(services: Served) -> None:
    assert result(post(services, "/typed/add", b"a=2&b=3", URLENCODED)) == 5
    assert result(post(services, "/typed/add", form(("a", b"2"), ("b", b"3")), MULTIPART)) == 5
    fields = [("place", json.dumps(PLACE).encode()), ("by", b"2"), ("by", b"0.5")]
    assert result(post(services, "/typed/move", form(*fields), MULTIPART)) == MOVED


def test_a_lone_input_comes_as_the_body_itself(services: Served) -> None:
    assert (
        result(post(services, "/typed/shout", "gr\u00fc\u00df".encode(), "text/plain; charset=utf-8")) == "GR\u00dcSS"
    )
    data = bytes(range(256))
    for kind in ("application/octet-stream", "Application/Octet-Stream"):
        assert result(post(services, "/typed/digest", data, kind)) == {"size": 256, "digest": digest(data), "name": ""}
    buffer = BytesIO()
    np.save(buffer, np.zeros((5, 7, 3), np.uint8))
    assert result(post(services, "/typed/shape", buffer.getvalue(), "application/x-npy")) == [5, 7, 3]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_image_comes_as_a_body_a_file_or_base64(services: Served, kind: str) -> None:
    data = picture(4, 3, kind)
    text = b64encode(data).decode()
    assert result(post(services, "/typed/shape", data, f"image/{kind}")) == [3, 4, 3]
    assert result(post(services, "/typed/shape", form(files=[("pixels", "a.b", data)]), MULTIPART)) == [3, 4, 3]
    for answer in (
        post(services, "/typed/turn", form(("degrees", b"90"), files=[("image", "a.b", data)]), MULTIPART),
        services.http.post("/typed/turn", {"image": text}),
        services.http.post("/typed/turn", {"image": f"data:image/{kind};base64,{text}"}),
    ):
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        assert Image.open(BytesIO(answer.body)).size == (3, 4)


def test_an_image_leaves_in_the_format_that_is_accepted(services: Served) -> None:
    for accept, kind in (
        ("image/jpeg", "image/jpeg"),
        ("*/*", "image/png"),
        ("image/jpeg;q=0.1, image/png", "image/png"),
    ):
        answer = post(services, "/typed/turn", form(files=[("image", "a", picture())]), MULTIPART, accept=accept)
        assert (answer.status, answer.headers["content-type"]) == (200, kind)


@pytest.mark.parametrize("size", [0, 1, 65_536, 1 << 20, (9 << 20) + 1])
def test_a_file_comes_whole_whatever_its_size(services: Served, size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    told = {"size": size, "digest": digest(data), "name": "photo of m\u00fc.bin:kept"}
    body = form(("note", b"kept"), files=[("file", "photo of m\u00fc.bin", data)])
    assert result(post(services, "/typed/keep", body, MULTIPART)) == told
    assert result(post(services, "/typed/digest", data, "application/octet-stream")) == {**told, "name": ""}


def test_arrays_are_lists_in_json(services: Served) -> None:
    assert result(services.http.post("/typed/scale", {"x": [[1, 2], [3, 4.5]], "factor": 3.0})) == [[3, 6], [9, 13.5]]
    assert result(services.http.post("/typed/extremes", {"x": [3, -1]})) == {"low": -1.0, "high": 3.0}


def test_inputs_stand_in_path_and_query(services: Served) -> None:
    answer = services.http.get("/typed/rooms/7/beds/by%20the%20window?tags=a&tags=b%26c&unit=mi")
    assert result(answer) == {"number": 7, "bed": "by the window", "unit": "mi", "tags": ["a", "b&c"]}
    answer = services.http.get("/typed/rooms/7/beds/left")
    assert result(answer) == {"number": 7, "bed": "left", "unit": "m", "tags": None}
    assert result(services.http.request("DELETE", "/typed/rooms/7")) is None
    assert (
        result(services.http.request("PUT", "/typed/put", b'{"value": 2}', {"content-type": "application/json"})) == 2
    )


def test_head_is_answered_like_get_without_the_body(services: Served) -> None:
    got, head = (services.http.request(method, "/typed/large?size=5000") for method in ("GET", "HEAD"))
    assert (got.status, head.status, len(got.body), head.body) == (200, 200, 5000, b"")
    assert head.headers["content-length"] == "5000"
    assert services.http.request("HEAD", "/typed/add").status == 405


def test_a_result_may_be_bytes_a_file_a_response_or_nothing(services: Served) -> None:
    large = services.http.get("/typed/large?size=5000000")
    assert (large.headers["content-type"], large.headers["content-length"]) == ("application/octet-stream", "5000000")
    assert large.body == b"\xa5" * 5_000_000
    larger = services.http.get("/typed/large?size=40000000")  # more than goes at once
    assert (larger.headers["content-length"], larger.body == b"\xa5" * 40_000_000) == ("40000000", True)
    empty = services.http.get("/typed/large?size=0")
    assert (empty.status, empty.headers["content-length"], empty.body) == (200, "0", b"")
    assert services.http.get("/typed/path").body == Path(APPS / "typed.py").read_bytes()
    assert result(services.http.get("/typed/nothing")) is None
    answer = services.http.get("/typed/response?status=418&body=short")
    assert (answer.status, answer.body, answer.headers["x-mine"]) == (418, b"short", "yes")


def test_what_is_known_of_a_request_is_told(services: Served) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    given = {"x_request_id": "mine-7", "traceparent": trace, "x_tone": "low", "samovar_timeout_ms": "5000"}
    answer = services.http.post("/typed/told", {}, **given)
    told = answer.json()
    assert (told["id"], answer.headers["x-request-id"], told["trace"]) == ("mine-7", "mine-7", trace)
    assert (told["headers"]["x-tone"], told["headers"]["content-type"]) == ("low", "application/json")
    assert 0 < told["remaining_s"] <= 5
    answer = services.http.post("/typed/told", {})
    assert answer.json()["id"] == answer.headers["x-request-id"] != ""
    assert 5 < answer.json()["remaining_s"] <= 30
