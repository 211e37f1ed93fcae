"""Texts of queries and forms become what the annotations say, and no more than that."""

from datetime import date
from typing import Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel

import samovar
from unit.python.service_client import ServiceClient, picture

KEY = "44bd6faf-b40d-3d3c-9335-a6a50b9c0cc1"


class Place(BaseModel):
    floor: int


class Range(NamedTuple):
    low: float
    high: float = 1.0


WHOLE = Range(0.0)


@samovar.service
class Asked:
    """Says what came in."""

    @samovar.api(method="GET")
    def find(
        self,
        near: Place | UUID | None = None,
        size: Literal["small", 3] = "small",
        since: date | None = None,
        within: Range = WHOLE,
        numbers: list[int] | None = None,
        note: str | None = None,
        anything: Any = None,
    ) -> list[str]:
        return [repr(value) for value in (near, size, since, within, numbers, note, anything)]

    @samovar.api
    def look(self, photo: samovar.Image, width: int, note: bytes = b"") -> int:
        raise NotImplementedError


NAMES = ("near", "size", "since", "within", "numbers", "note", "anything")


@pytest.fixture(scope="module")
def asked() -> ServiceClient:
    return ServiceClient(Asked)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("near", '{"floor": 1}', "Place(floor=1)"),
        ("near", f'"{KEY}"', f"UUID('{KEY}')"),  # JSON
        ("near", KEY, f"UUID('{KEY}')"),
        ("near", "null", "None"),
        ("size", "3", "3"),
        ("size", "small", "'small'"),
        ("since", "2026-01-02", "datetime.date(2026, 1, 2)"),
        ("since", "", "None"),
        ("within", '{"low": 0, "high": 2.5}', "Range(low=0.0, high=2.5)"),
        ("numbers", "", "None"),
        ("numbers", "[1, 2]", "[1, 2]"),
        ("note", "", "''"),
        ("note", "null", "'null'"),
        ("anything", '{"a": [1]}', "{'a': [1]}"),
        ("anything", "a b", "'a b'"),
    ],
)
def test_a_text_is_read_as_the_schema_says(asked: ServiceClient, name: str, text: str, value: str) -> None:
    response = asked.get("/asked/find", params={name: text})
    assert response.status_code == 200, response.text
    assert response.json()[NAMES.index(name)] == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("near", '{"floor": "1"}', 'field "near.Place.floor": got "1"; input should be a valid integer'),
        ("size", "4", "field \"size\": got 4; input should be 'small' or 3"),
        ("size", "large", 'field "size": got "large"; input should be \'small\' or 3'),
        ("since", "0", 'field "since": got "0"; input should be a date or nothing'),
        ("since", "-1.5", 'field "since": got "-1.5"; input should be a date or nothing'),
        ("since", "null", 'field "since": got "null"; input should be a valid date'),
        ("within", '{"low": "0"}', 'field "within.low": got "0"; input should be a valid number'),
        ("within", "[0, 1]", 'field "within": got [0,1]; input should be an object'),
        ("numbers", "a", 'field "numbers": got "a"; input should be an integer'),
    ],
)
def test_a_text_that_is_none_of_it_is_refused(asked: ServiceClient, name: str, text: str, message: str) -> None:
    response = asked.get("/asked/find", params={name: text})
    assert response.status_code == 422
    assert response.json()["error"].startswith(f"query: {message}")


def test_a_fault_beside_a_file_shows_it_as_base64(asked: ServiceClient) -> None:
    files = {"photo": picture(), "note": b"\xff"}
    body = asked.post("/asked/look", files=files).json()
    assert body["error"] == 'body: field "width" is missing; send it'
    assert body["detail"][0]["input"]["note"] == "_w=="


def test_the_document_says_what_may_be_left_empty(asked: ServiceClient) -> None:
    document = asked.get("/asked/openapi.json").json()
    parameters = {found["name"]: found for found in document["paths"]["/asked/find"]["get"]["parameters"]}
    assert [name for name, found in parameters.items() if "allowEmptyValue" in found] == ["since", "numbers"]
    assert parameters["since"]["schema"] == {"title": "Since", "type": "string", "format": "date"}
    near = parameters["near"]["content"]["application/json"]["schema"]
    assert {"type": "null"} in near["anyOf"]  # as JSON it may be null
    assert parameters["within"]["content"]["application/json"]["schema"]["default"] == {"low": 0.0, "high": 1.0}
