"""Names in paths: looked up in the engine's own index, never anywhere else, whatever they spell."""

import pytest

from http_door import Answer
from serving import Served

TRAVERSAL = [
    "..",
    ".",
    "../sum",
    "..%2fsum",
    "%2e%2e",
    "%2e%2e%2fsum",
    "..%5csum",
    "%2fetc%2fpasswd",
    ".sum",
    "%252e%252e",
]
CHARACTERS = [
    "a%20b",
    "a%00",
    "%00",
    "a%0ab",
    "a%0d%0ab",
    "a%2fb",
    "a%5cb",
    "s%75m%",
    "%zz",
    "a%2",
    "a:b",
    "a*",
    "a~b",
    "-sum",
]
UNICODE = ["gr%C3%BC%C3%9Fe", "%E4%B8%96", "%ff%fe", "s%EF%BD%95m", "%F0%9F%98%80", "su%CC%88m"]
LONG = ["n" * 256, "n" * 5_000]
ANSWERED = [*CHARACTERS, *UNICODE, *LONG]
PATHS = [
    "/v2/models/{}",
    "/v2/models/{}/ready",
    "/v2/models/sum/versions/{}",
    "/v2/models/{}/infer",
    "/v2/repository/models/{}/load",
]


def ask(served: Served, path: str, name: str) -> Answer:
    filled = path.format(name)
    return served.http.request("POST" if filled.endswith(("infer", "load")) else "GET", filled)


@pytest.mark.parametrize("name", ANSWERED, ids=lambda name: name[:20])
@pytest.mark.parametrize("path", PATHS)
def test_name_that_none_can_have_is_refused(shared: Served, path: str, name: str) -> None:
    answer = ask(shared, path, name)
    assert (answer.status, answer.code()) == (400, "invalid_name")
    assert len(answer.body) < 700


@pytest.mark.parametrize("name", TRAVERSAL)
@pytest.mark.parametrize("path", PATHS)
def test_traversal_finds_nothing(shared: Served, path: str, name: str) -> None:
    answer = ask(shared, path, name)
    assert (answer.status, answer.code()) in ((400, "invalid_name"), (404, "not_found"))


@pytest.mark.parametrize(
    "name", ["n" * 255, "SUM", "Sum", "sum_", "sum.", "sum-1", "_", "0", "v2", "metrics", "__init__"]
)
def test_name_that_nobody_has_is_unknown(shared: Served, name: str) -> None:
    answer = shared.http.get(f"/v2/models/{name}")
    assert (answer.status, answer.code()) == (404, "unknown_model")
    answer = shared.http.get(f"/v2/models/sum/versions/{name}")
    assert (answer.status, answer.code()) == (404, "unknown_version")


@pytest.mark.parametrize("name", ["sum", "s%75m", "%73%75%6D", "sum?..=%00"])
def test_name_is_read_percent_decoded(shared: Served, name: str) -> None:
    assert shared.http.get(f"/v2/models/{name}").json()["name"] == "sum"


@pytest.mark.parametrize("path", ["/v2/models/su\xfcm", "/v2/models/\x01", "/v2/models/\x00", "/v2 /x", "http://[::1"])
def test_target_that_is_no_target_is_refused(shared: Served, path: str) -> None:
    with shared.http.wire() as wire:
        wire.send(b"GET ", path.encode("latin-1"), b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.answer().status == 400


@pytest.mark.parametrize("target", ["http://localhost/v2/models/sum", "HTTP://127.0.0.1:8000/v2/models/sum"])
def test_target_in_absolute_form_is_taken(shared: Served, target: str) -> None:
    with shared.http.wire() as wire:
        wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert wire.answer().json()["name"] == "sum"
