"""What a client of a service reads when something is wrong: the field, what was got, what was wanted."""

import json
from base64 import b64encode

import pytest

from protocol.uploads import MULTIPART, error, form, picture, post
from serving import Serve, Served

JSON = "application/json"
FIELDS: dict[str, tuple[bytes, list[str], str, str]] = {
    "missing": (b"{}", ["a"], "missing", "is missing; send it"),
    "text": (b'{"a": "1"}', ["a"], "int_type", 'got "1"; input should be a valid integer'),
    "null": (b'{"a": null}', ["a"], "int_type", "got null"),
    "fraction": (b'{"a": 1.5}', ["a"], "int_type", "got 1.5"),
    "unknown": (b'{"a": 1, "c": 2}', ["c"], "extra_forbidden", "is unknown; leave it out"),
    "list": (b"[1]", [], "model_type", "got [1]; input should be an object"),
}
PLACES: dict[str, tuple[object, list[str | int], str]] = {
    "nested": ({"place": {"name": "", "at": [1, 2]}}, ["place", "name"], "at least 1 character"),
    "element": ({"place": {"name": "a", "at": [1, "x"]}}, ["place", "at", 1], "valid number"),
    "choice": ({"place": {"name": "a", "at": [1, 2]}, "unit": "km"}, ["unit"], "'m' or 'mi'"),
}
MALFORMED = [
    (b"{", JSON),
    (b"", JSON),
    (b'{"a": 1} 2', JSON),
    (b'\xff{"a": 1}', JSON),
    (b"no parts at all", MULTIPART),
    (b"a=1", "multipart/form-data"),
]


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_field_is_named_with_what_was_got_and_wanted(services: Served, name: str) -> None:
    body, path, kind, text = FIELDS[name]
    answer = post(services, "/typed/add", body, JSON)
    told = error(answer)
    assert (answer.status, told["code"]) == (422, "invalid_input")
    assert told["detail"][0]["loc"] == ["body", *path]
    assert told["detail"][0]["type"] == kind
    assert text in told["error"]
    assert all(f'"{part}"' in told["error"] for part in path)


@pytest.mark.parametrize("name", PLACES)
def test_a_wrong_part_of_an_object_is_named_by_its_path(services: Served, name: str) -> None:
    content, path, text = PLACES[name]
    answer = services.http.post("/typed/move", content)
    told = error(answer)
    assert (answer.status, told["detail"][0]["loc"]) == (422, ["body", *path])
    assert f'field "{".".join(map(str, path))}"' in told["error"]
    assert text in told["error"]


def test_each_place_of_an_input_is_named(services: Served) -> None:
    for path, place, name in (
        ("/typed/rooms/x/beds/b", "path", "number"),
        ("/typed/rooms/1/beds/b?unit=km", "query", "unit"),
        ("/typed/rooms/1/beds/b?unit=m&unit=mi", "query", "unit"),
        ("/typed/large", "query", "size"),
        ("/typed/large?size=1&more=2", "query", "more"),
    ):
        answer = services.http.get(path)
        told = error(answer)
        assert (answer.status, told["detail"][0]["loc"]) == (422, [place, name])
        assert told["error"].startswith(f'{place}: field "{name}"')
    told = error(post(services, "/typed/add", form(("a", b"x")), MULTIPART))
    assert told["detail"][0]["loc"] == ["body", "a"]


@pytest.mark.parametrize(("body", "kind"), MALFORMED)
def test_a_body_that_cannot_be_read_is_a_bad_request(services: Served, body: bytes, kind: str) -> None:
    answer = post(services, "/typed/add", body, kind)
    assert (answer.status, error(answer)["code"]) == (400, "invalid_request")


def test_a_body_of_another_type_is_refused_with_those_that_are_taken(services: Served) -> None:
    for path, kind, wanted in (
        ("/typed/add", "text/plain", "multipart/form-data"),
        ("/typed/shout", "application/octet-stream", "text/plain"),
        ("/typed/turn", "image/png", "multipart/form-data"),  # it takes two inputs
    ):
        answer = post(services, path, b"1", kind)
        told = error(answer)
        assert (answer.status, told["code"]) == (415, "unsupported_media_type")
        assert kind in told["error"]
        assert wanted in told["error"]
    answer = services.http.request("POST", "/typed/add", b'{"a": 1}')
    assert answer.status == 415
    assert "without a content type" in error(answer)["error"]


def test_wrong_base64_and_wrong_images_are_invalid_fields(services: Served) -> None:
    for image, text in (
        ("no base64!", "no base64"),
        (b64encode(b"no image").decode(), "no image can be read"),
        (b64encode(picture()[:40]).decode(), "no image can be read"),
    ):
        answer = services.http.post("/typed/turn", {"image": image})
        told = error(answer)
        assert (answer.status, told["detail"][0]["loc"]) == (422, ["body", "image"])
        assert text in told["error"]


def test_a_large_value_is_quoted_in_part(services: Served) -> None:
    answer = services.http.post("/typed/add", {"a": "\x1b[31m" + "long" * 100_000})
    told = error(answer)
    assert answer.status == 422
    assert len(answer.body) < 2_000
    assert "\x1b" not in told["error"]


def test_a_path_that_nobody_has_is_not_found(services: Served) -> None:
    for path in ("/typed", "/typed/", "/typed/nowhere", "/typed/add/", "/typed/add/more", "/typed/rooms/1/beds/"):
        answer = services.http.post(path, {})
        assert (answer.status, error(answer)["code"]) == (404, "not_found"), path
    for path in ("/nowhere", "/typedd/add", "/"):
        answer = services.http.post(path, {})
        assert (answer.status, answer.code()) == (404, "not_found"), path


def test_another_method_than_that_of_a_path_is_refused_with_those_that_it_has(services: Served) -> None:
    for method, path, allowed in (
        ("GET", "/typed/add", "POST"),
        ("DELETE", "/typed/add", "POST"),
        ("POST", "/typed/large", "GET, HEAD"),
        ("GET", "/typed/rooms/1", "DELETE"),
        ("POST", "/typed/openapi.json", "GET, HEAD"),
        ("OPTIONS", "/typed/add", "POST"),
    ):
        answer = services.http.request(method, path)
        assert (answer.status, answer.code()) == (405, "method_not_allowed"), (method, path)
        assert sorted(answer.headers["allow"].split(", ")) == allowed.split(", ")


@pytest.mark.parametrize(
    ("kind", "status", "code", "text"),
    [
        ("exception", 500, "model_error", "Typed.fail raised ValueError: no such thing"),
        ("input", 400, "invalid_input", "that is too much"),
        ("result", 500, "bad_model_output", "Typed.fail: the result is str: input should be a valid integer"),
    ],
)
def test_what_a_method_raises_is_told_by_whose_fault_it_is(
    services: Served, kind: str, status: int, code: str, text: str
) -> None:
    answer = services.http.post("/typed/fail", {"kind": kind})
    told = error(answer)
    assert (answer.status, told["code"]) == (status, code)
    assert text in told["error"]


def test_a_status_of_a_programs_own_keeps_its_detail_and_headers(services: Served) -> None:
    answer = services.http.post("/typed/fail", {"kind": "http"})
    assert (answer.status, error(answer)["detail"], answer.headers["x-why"]) == (409, {"taken": True}, "taken")


def test_a_programs_exception_is_for_the_log_alone_where_errors_are_not_exposed(serve: Serve) -> None:
    served = serve("typed.py", "mounted.py", options=["--expose-errors", "id"])
    answer = served.http.post("/typed/fail", {"kind": "exception"}, x_request_id="secret-1")
    assert (answer.status, answer.code()) == (500, "model_error")
    assert "no such thing" not in answer.body.decode()
    assert "ValueError" not in answer.body.decode()
    for path in ("/raw/raise", "/raw/twice", "/raw/nothing"):
        answer = served.http.get(path)
        assert (answer.status, answer.code()) == (500, "model_error")
        assert "before the answer" not in answer.body.decode()
        assert "RuntimeError" not in answer.body.decode()
    assert served.stop() == 0
    (line,) = [line for line in served.log() if line["message"] == "ValueError: no such thing"]
    assert (line["model"], line["request_id"]) == ("typed", "secret-1")
    assert "typed.py" in json.dumps([line for line in served.log() if line.get("request_id") == "secret-1"])
