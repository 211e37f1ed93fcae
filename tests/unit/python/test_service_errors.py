"""What a client reads when something went wrong, and what the log has of it."""

from typing import Any

import pytest
from fastapi import HTTPException

import samovar
from samovar import _core
from samovar.errors import InvalidInputError, StepError
from samovar.service.faults import STATUSES, quoted
from unit.python.service_client import ServiceClient


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


RAISED: dict[str, Exception] = {
    "input": InvalidInputError("no plate\u202e"),
    "busy": StepError("the queue is full", "stn", "queue_full"),
    "late": StepError("the deadline passed", "stn", "deadline_exceeded"),
    "odd": StepError("what is this", "stn", "nobody_knows"),
    "gone": HTTPException(404, "no such plate", {"x-note": "n"}),
    "conflict": HTTPException(409, {"why": ["a"]}),
    "unchanged": HTTPException(304),
    "value": ValueError("too small"),
    "unspeakable": UnspeakableError(),
}


@samovar.service
class Fails:
    @samovar.api
    def do(self, what: str) -> None:
        raise RAISED[what]

    @samovar.api
    async def do_async(self, what: str) -> None:
        raise RAISED[what]

    @samovar.api(method="GET", path="/fails/look")
    def look(self) -> int:
        return 1

    @samovar.api(method="PUT", path="/fails/look")
    def put(self) -> int:
        return 2


@pytest.fixture(scope="module")
def fails() -> ServiceClient:
    return ServiceClient(Fails)


CASES = [
    ("input", 400, {"error": "no plate\\u202e", "code": "invalid_input"}),
    ("busy", 429, {"error": "step stn.predict: the queue is full", "code": "queue_full"}),
    ("late", 504, {"error": "step stn.predict: the deadline passed", "code": "deadline_exceeded"}),
    ("odd", 500, {"error": "step stn.predict: what is this", "code": "internal"}),
    ("gone", 404, {"error": "no such plate", "code": "not_found"}),
    ("conflict", 409, {"error": "status 409", "code": "invalid_request", "detail": {"why": ["a"]}}),
    ("value", 500, {"error": "Fails.do raised ValueError: too small", "code": "model_error"}),
    (
        "unspeakable",
        500,
        {"error": "Fails.do raised UnspeakableError: (its text cannot be shown)", "code": "model_error"},
    ),
]


@pytest.mark.parametrize(("what", "status", "expected"), CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("name", ["do", "do_async"])
def test_an_exception_becomes_an_answer(
    fails: ServiceClient, name: str, what: str, status: int, expected: dict[str, Any]
) -> None:
    response = fails.post(f"/fails/{name}", json={"what": what})
    text = expected["error"].replace("Fails.do ", f"Fails.{name} ")
    assert (response.status_code, response.json()) == (status, {**expected, "error": text, "id": "r-7"})
    assert response.headers.get("retry-after") == ("1" if status == 429 else None)


def test_a_status_without_a_body_has_none(fails: ServiceClient) -> None:
    response = fails.post("/fails/do", json={"what": "unchanged"})
    assert (response.status_code, response.content) == (304, b"")


def test_headers_of_an_exception_are_sent(fails: ServiceClient) -> None:
    assert fails.post("/fails/do", json={"what": "gone"}).headers["x-note"] == "n"


def test_the_log_has_the_whole_of_a_fault_and_nothing_of_a_clients(
    fails: ServiceClient, capsys: pytest.CaptureFixture[str]
) -> None:
    fails.post("/fails/do", json={"what": "value"})
    log = capsys.readouterr().err
    assert log.startswith("Fails.do failed on request r-7\nTraceback (most recent call last):\n")
    assert log.endswith("ValueError: too small\n")
    assert "anyio" not in log.partition("Traceback")[0]
    for what in ("input", "busy", "gone"):
        fails.post("/fails/do", json={"what": what})
    fails.post("/fails/do", json={})
    assert capsys.readouterr().err == ""


def test_where_errors_are_not_exposed_the_id_leads_to_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    client = ServiceClient(Fails, expose_errors=False)
    assert client.post("/fails/do", json={"what": "value"}).json() == {
        "error": "Fails.do raised an exception; the log has it under the id of this request",
        "code": "model_error",
        "id": "r-7",
    }
    assert "too small" in capsys.readouterr().err


def test_unknown_paths_and_methods(fails: ServiceClient) -> None:
    response = fails.post("/fails/no")
    assert (response.status_code, response.json()) == (
        404,
        {"error": "nothing is served at '/fails/no'", "code": "not_found", "id": "r-7"},
    )
    response = fails.request("DELETE", "/fails/look")
    assert (response.status_code, response.json()) == (
        405,
        {"error": "DELETE is not allowed here; want GET, HEAD, PUT", "code": "method_not_allowed", "id": "r-7"},
    )
    assert response.headers["allow"] == "GET, HEAD, PUT"


def test_the_statuses_are_those_of_the_http_door() -> None:
    assert {slug: http for slug, http, _ in _core.error_statuses()} == STATUSES


@pytest.mark.parametrize("text", ["ü" * 300, "\n" * 300, "a" * 300, "😀" * 100])
def test_quotes_are_short_and_visible(text: str) -> None:
    assert len(quoted(text).encode()) <= 256 + len("…".encode())
    assert "\n" not in quoted(text)
    assert quoted("short ü") == "short ü"
