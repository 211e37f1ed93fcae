"""The document and the page of a service."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from fastapi import Response
from fastapi.openapi.models import OpenAPI
from jaxtyping import Float32
from pydantic import BaseModel, Field

import samovar
from unit.python.service_client import ServiceClient


class Item(BaseModel):
    name: str
    price: float = 1.0


@samovar.service(version="2")
class Shop:
    """Sells.

    Everything.
    """

    @samovar.api
    def add(self, item: Item, count: Annotated[int, Field(ge=1, description="how many")] = 1) -> list[Item]:
        """Put an item into the shop.

        It stays there.
        """
        return [item] * count

    @samovar.api
    def look(self, image: samovar.Image, scale: float | None = None) -> samovar.Image:
        raise NotImplementedError

    @samovar.api
    def data(self, data: bytes) -> bytes:
        raise NotImplementedError

    @samovar.api
    def text(self, text: Annotated[str, Field(max_length=9)]) -> str:
        raise NotImplementedError

    @samovar.api
    def array(self, x: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n"]:
        raise NotImplementedError

    @samovar.api
    async def stream(self, n: int = 1) -> AsyncIterator[Item]:
        yield Item(name="a")

    @samovar.api(method="GET", path="/shop/items/{key}")
    def find(self, key: int, limit: list[int] = [], note: str | None = None) -> Response:  # noqa: B006
        raise NotImplementedError

    @samovar.api(method="DELETE", path="/shop/items/{key}")
    def drop(self, key: int) -> Path:
        raise NotImplementedError

    @samovar.api(method="GET", path="/shop/state")
    def state(self) -> dict[str, float]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def shop() -> ServiceClient:
    return ServiceClient(Shop)


@pytest.fixture(scope="module")
def document(shop: ServiceClient) -> dict[str, Any]:
    response = shop.get("/shop/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


def body_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][f"/shop/{name}"]["post"]["requestBody"]
    return found


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def test_it_is_a_document_of_openapi(document: dict[str, Any]) -> None:
    OpenAPI.model_validate(document)
    assert document["info"] == {"title": "shop", "version": "2", "description": "Sells.\n\nEverything."}
    add = document["paths"]["/shop/add"]["post"]
    assert (add["summary"], add["description"]) == ("Put an item into the shop.", "It stays there.")
    assert (add["operationId"], add["tags"]) == ("add", ["shop"])
    references = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert references <= set(document["components"]["schemas"])


def test_a_json_body_is_an_object_of_the_inputs(document: dict[str, Any]) -> None:
    body = body_of(document, "add")
    assert body["required"] is True
    assert list(body["content"]) == ["application/json"]  # an item is no field of a form
    schema = resolved(document, body["content"]["application/json"]["schema"])
    assert schema["required"] == ["item"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["count"] == {
        "title": "Count",
        "description": "how many",
        "type": "integer",
        "minimum": 1,
        "default": 1,
    }
    assert body_of(document, "stream")["required"] is False


def test_files_are_binary_in_forms_and_base64_in_json(document: dict[str, Any]) -> None:
    content = body_of(document, "look")["content"]
    assert list(content) == ["multipart/form-data", "application/json"]
    form = content["multipart/form-data"]["schema"]
    assert form["properties"] == {
        "image": {"title": "Image", "type": "string", "format": "image", "contentMediaType": "image/*"},
        "scale": {"title": "Scale", "type": "number"},
    }
    json = resolved(document, content["application/json"]["schema"])["properties"]["image"]
    assert (json["contentEncoding"], json["contentMediaType"]) == ("base64", "image/*")
    content = body_of(document, "data")["content"]
    assert list(content) == ["multipart/form-data", "application/octet-stream", "application/json"]


def test_raw_bodies_and_forms_of_texts(document: dict[str, Any]) -> None:
    content = body_of(document, "text")["content"]
    assert set(content) == {
        "application/json",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "text/plain",
    }
    assert content["text/plain"]["schema"]["maxLength"] == 9
    assert set(body_of(document, "array")["content"]) == {"application/json", "application/x-npy"}


def test_arrays_are_nested_lists(document: dict[str, Any]) -> None:
    schema = resolved(document, body_of(document, "array")["content"]["application/json"]["schema"])
    rows = schema["properties"]["x"]["items"]
    assert (rows["minItems"], rows["maxItems"], rows["items"]["type"]) == (3, 3, "number")
    result = document["paths"]["/shop/array"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert result["items"]["type"] == ["number", "null"]


def test_every_status_has_its_class(document: dict[str, Any]) -> None:
    responses = document["paths"]["/shop/add"]["post"]["responses"]
    assert list(responses) == ["200", "422", "4XX", "5XX"]
    schemas = [responses[status]["content"]["application/json"]["schema"] for status in ("422", "4XX", "5XX")]
    assert [resolved(document, schema)["title"] for schema in schemas] == ["InvalidInput", "Error", "Error"]
    assert "413: a body that is too large" in responses["4XX"]["description"]
    state = document["paths"]["/shop/state"]["get"]["responses"]
    assert list(state) == ["200", "4XX", "5XX"]
    assert "body" not in state["4XX"]["description"]
    assert "default" in document["paths"]["/shop/items/{key}"]["get"]["responses"]


def test_what_answers_may_be(document: dict[str, Any]) -> None:
    def content(path: str, verb: str = "post") -> list[str]:
        return list(document["paths"][path][verb]["responses"]["200"]["content"])

    assert content("/shop/look") == ["image/png", "image/jpeg"]
    assert content("/shop/data") == ["application/octet-stream"]
    assert content("/shop/stream") == ["application/x-ndjson", "text/event-stream"]
    assert content("/shop/items/{key}", "get") == ["*/*"]
    assert content("/shop/items/{key}", "delete") == ["*/*"]
    state = document["paths"]["/shop/state"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert state["additionalProperties"]["type"] == ["number", "null"]


def test_a_stream_says_what_its_items_are(document: dict[str, Any]) -> None:
    found = document["paths"]["/shop/stream"]["post"]["responses"]["200"]
    assert found["description"].startswith("what the method yields, one Item per line or event;")
    item = found["content"]["application/x-ndjson"]["x-item-schema"]
    assert resolved(document, item)["properties"]["price"]["type"] == ["number", "null"]
    message, fault = found["content"]["text/event-stream"]["schema"]["anyOf"]
    assert (message["properties"]["data"]["contentSchema"], message["required"]) == (item, ["data"])
    assert resolved(document, fault["properties"]["data"]["contentSchema"])["title"] == "Error"
    assert fault["properties"]["event"] == {"const": "error"}


def test_path_and_query_parameters(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/shop/items/{key}"]["get"]["parameters"]
    assert [(found["name"], found["in"], found["required"]) for found in parameters] == [
        ("key", "path", True),
        ("limit", "query", False),
        ("note", "query", False),
    ]
    assert parameters[2]["schema"] == {"title": "Note", "type": "string"}
    assert "requestBody" not in document["paths"]["/shop/items/{key}"]["get"]


def test_the_page_needs_no_other_host(shop: ServiceClient) -> None:
    page = shop.get("/shop/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    found = re.findall(r'(?:src|href|data-openapi)="([^"]*)"', page.text)
    assert all(address.startswith(("/shop/", "data:")) for address in found)
    for address in found:
        if address.startswith("/shop/"):
            response = shop.get(address)
            assert response.status_code == 200, address
            assert response.headers["content-type"].partition(";")[0] in (
                "text/css",
                "text/javascript",
                "application/json",
            )
    assert "<script>" not in page.text
    assert "http:" not in page.text
    assert "https:" not in page.text


def test_the_title_is_escaped() -> None:
    @samovar.service(name="a.b-c")
    class S:
        """<script>alert(1)</script>"""

        @samovar.api
        def find(self) -> None: ...

    assert "alert" not in ServiceClient(S).get("/a.b-c/docs").text
