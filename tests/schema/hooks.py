"""What schemathesis is told: how images are made, what no schema can say, what a form cannot, what a line is."""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

import jsonschema_rs
import schemathesis
from hypothesis import strategies
from PIL import Image
from schemathesis.transport.serialization import Binary

FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
SIDES = strategies.integers(1, 6)
COLOURS = strategies.tuples(*[strategies.integers(0, 255)] * 3)


def image_file(width: int, height: int, colour: tuple[int, int, int], kind: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height), colour).save(file, kind)
    return file.getvalue()


IMAGES = strategies.builds(image_file, SIDES, SIDES, COLOURS, strategies.sampled_from(["png", "jpeg", "bmp"]))

schemathesis.openapi.media_type("image/*", IMAGES)  # as a body
schemathesis.openapi.format("image", IMAGES)  # as a form's file
schemathesis.openapi.format("image-base64", IMAGES.map(lambda file: b64encode(file).decode()))  # in JSON


@schemathesis.hook
def filter_case(_: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    return not (is_ragged(case.body) or is_mended_by_form(case))


def is_ragged(value: Any) -> bool:
    """True if the lists in a list are not equally long: no schema can say that those of an array are."""
    if isinstance(value, dict):
        return any(map(is_ragged, value.values()))
    if not isinstance(value, list):
        return False
    lengths = {len(inner) for inner in value if isinstance(inner, list)}
    return len(lengths) > 1 or any(map(is_ragged, value))


def is_mended_by_form(case: schemathesis.Case) -> bool:
    """True for a wrong body that fits when it is sent: a form has texts alone, and a list is a field several times."""
    if case.media_type not in FORMS or not isinstance(case.body, dict) or not case.meta.generation.mode.is_negative:
        return False
    schema = case.operation.definition.raw["requestBody"]["content"][case.media_type]["schema"]
    sent = {name: as_sent(schema["properties"].get(name, {}), value) for name, value in case.body.items()}
    kept = {name: reading for name, reading in sent.items() if not is_empty(case.body[name])}  # of {} some send nothing
    return jsonschema_rs.is_valid(schema, sent) or jsonschema_rs.is_valid(schema, kept)


def is_empty(value: Any) -> bool:
    """True for lists and objects with nothing in them."""
    parts = value.values() if isinstance(value, dict) else value
    return isinstance(value, dict | list) and all(map(is_empty, parts))


def as_sent(schema: dict[str, Any], value: Any) -> Any:
    """The reading of a form's value that fits its schema; its text if none does."""
    if schema.get("type") == "array":
        values = value if isinstance(value, list) else [value]
        if len(values) == 1 and isinstance(values[0], list):
            values = values[0]  # the service takes a list as JSON, too
        return [as_sent(schema["items"], item) for item in values]
    text = text_of(value)
    return next((reading for reading in readings(text) if jsonschema_rs.is_valid(schema, reading)), text)


def text_of(value: Any) -> str:
    """The text of a field; that of a file stands for any."""
    if isinstance(value, bytes | Binary):
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=text_of)


def readings(text: str) -> Iterator[Any]:
    yield text
    with suppress(ValueError):
        yield json.loads(text)


@schemathesis.check
def lines_are_items(_: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """Each line of a stream is an item, or the last an error: OpenAPI 3.1 has no word for it."""
    content = case.operation.definition.raw["responses"]["200"]["content"].get("application/x-ndjson")
    if content is None or response.headers["content-type"] != ["application/x-ndjson"]:
        return
    components = case.operation.schema.raw_schema["components"]
    wanted = [content["x-item-schema"], {"$ref": "#/components/schemas/Error"}]
    item, item_or_error = (
        jsonschema_rs.validator_for({"anyOf": wanted[:count], "components": components}) for count in (1, 2)
    )
    lines = response.content.splitlines()
    for place, line in enumerate(lines):
        validator = item if place + 1 < len(lines) else item_or_error
        assert validator.is_valid(json.loads(line)), f"no item, and no error at the end: {line.decode()}"
