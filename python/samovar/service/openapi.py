"""The OpenAPI document of a service: every form a request may have, every class of answers."""

from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any

from pydantic import TypeAdapter

from samovar.service.bodies import FORMS, JSON, MULTIPART, URLENCODED
from samovar.service.inputs import Inputs
from samovar.service.results import Items
from samovar.service.schemas import Property, SchemaGenerator, as_part, is_part, without_null
from samovar.service.serving import Forms
from samovar.service.streams import EVENTS, LINES
from samovar.service.texts import takes_nothing

__all__ = ["document_of"]

_REF = "#/components/schemas/{model}"
_ERROR = {
    "title": "Error",
    "type": "object",
    "properties": {
        "error": {"type": "string", "description": "what went wrong, for people"},
        "code": {"type": "string", "description": "its stable name"},
        "id": {"type": "string", "description": "the request's, as in the log"},
        "detail": {"description": "more of it"},
    },
    "required": ["error", "code", "id"],
    "additionalProperties": False,
}
_INVALID = {
    **_ERROR,
    "title": "InvalidInput",
    "properties": {
        **_ERROR["properties"],  # type: ignore[dict-item]
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                    "msg": {"type": "string"},
                    "input": {},
                },
                "required": ["type", "loc", "msg"],
            },
        },
    },
}
# By classes: the page of a service shows every response at length.
_REFUSED = {
    "400": "malformed, or refused by the method",
    "408": "a body that arrives too slowly",
    "413": "a body that is too large",
    "415": "a body of another content type than those above",
    "429": "one too many: try again later",
}
_FAILED = (
    "500: the method failed; 503: the service, or a model that it uses, is not ready, try again later; "
    "504: the deadline passed"
)
_OF_BODIES = ("408", "413", "415")


def document_of(name: str, version: str, description: str | None, forms: Sequence[Forms]) -> dict[str, Any]:
    """The document of the service `name`."""
    schemas = _Schemas(forms)
    paths: dict[str, Any] = {}
    for form in forms:
        operation = {"tags": [name], **_operation(form, schemas)}
        paths.setdefault(form.endpoint.path, {})[form.endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version, "description": cleandoc(description or "")},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR, "InvalidInput": _INVALID, **schemas.definitions}},
    }


class _Schemas:
    """The schemas of all methods, generated together: what several share is defined once."""

    def __init__(self, forms: Sequence[Forms]) -> None:
        inputs: list[Any] = []
        for form in forms:
            inputs += [(("path", form), "validation", TypeAdapter(form.path.model))]
            inputs += [(("rest", form), "validation", TypeAdapter(form.rest.model))]
            inputs += [(("result", form), "serialization", form.results.adapter)]
        found, table = TypeAdapter.json_schemas(inputs, ref_template=_REF, schema_generator=SchemaGenerator)
        self.definitions: dict[str, Any] = table.get("$defs", {})
        self._found = {key[0]: schema for key, schema in found.items()}
        for (source, form), schema in list(self._found.items()):
            if source == "path" or (source == "rest" and not form.endpoint.has_body):
                self._found[source, form] = self.definitions.pop(schema["$ref"].rpartition("/")[2])

    def result(self, form: Forms) -> dict[str, Any]:
        """The schema of what the method returns, or of one item that it yields."""
        return dict(self._found["result", form])

    def body(self, form: Forms) -> dict[str, Any]:
        """The schema of the JSON object with the inputs."""
        return dict(self._found["rest", form])

    def properties(self, form: Forms, inputs: Inputs) -> dict[str, Property]:
        """Each input."""
        schema = Property(self._found["path" if inputs is form.path else "rest", form], self.definitions).resolved()
        required = schema.get("required", ())
        return {
            name: Property(found, self.definitions, name in required)
            for name, found in schema.get("properties", {}).items()
        }


def _operation(form: Forms, schemas: _Schemas) -> dict[str, Any]:
    endpoint = form.endpoint
    summary, _, rest = endpoint.description.partition("\n")
    operation: dict[str, Any] = {"operationId": endpoint.name, "summary": summary or endpoint.name}
    if rest.strip():
        operation["description"] = rest.strip()
    parameters = [_parameter("path", name, found) for name, found in schemas.properties(form, form.path).items()]
    if endpoint.has_body:
        operation["requestBody"] = _body(form, schemas)
    else:
        found = schemas.properties(form, form.rest)
        parameters += [_parameter("query", name, schema) for name, schema in found.items()]
    if parameters:
        operation["parameters"] = parameters
    operation["responses"] = _responses(form, schemas)
    return operation


def _parameter(place: str, name: str, found: Property) -> dict[str, Any]:
    table: dict[str, Any] = {"name": name, "in": place, "required": place == "path" or found.is_required}
    if place == "query" and takes_nothing(found):
        table["allowEmptyValue"] = True
    if is_part(found):
        return {**table, "schema": without_null(found)}
    return {**table, "content": {JSON: {"schema": dict(found.schema)}}}


def _body(form: Forms, schemas: _Schemas) -> dict[str, Any]:
    properties = schemas.properties(form, form.rest)
    content: dict[str, Any] = {}
    if all(map(is_part, properties.values())) and properties:
        parts = {name: as_part(found) for name, found in properties.items()}
        required = [name for name, found in properties.items() if found.is_required]
        schema = {"type": "object", "properties": parts, "required": required, "additionalProperties": False}
        has_files = any(_has_file(part) for part in parts.values())
        for media in FORMS:
            if media != URLENCODED or not has_files:
                content[media] = {"schema": schema}
    for media in form.raw:
        content[media] = {"schema": _raw(media, *properties.values())}
    json = {JSON: {"schema": schemas.body(form)}}
    # The page offers the first: a file is chosen there, its base64 is not.
    content = {**content, **json} if _wants_files(content) else {**json, **content}
    return {"content": content, "required": not form.rest.is_optional}


def _wants_files(content: Mapping[str, Any]) -> bool:
    return MULTIPART in content and URLENCODED not in content


def _has_file(part: Mapping[str, Any]) -> bool:
    return "contentMediaType" in part or ("items" in part and _has_file(part["items"]))


def _raw(media: str, found: Property) -> dict[str, Any]:
    if media == "text/plain":
        return next(dict(choice.schema) for choice in found.alternatives() if choice.schema.get("type") == "string")
    return {"type": "string", "format": "image" if media == "image/*" else "binary"}


def _responses(form: Forms, schemas: _Schemas) -> dict[str, Any]:
    endpoint = form.endpoint
    responses: dict[str, Any] = {"200": _result(form, schemas)}
    if endpoint.has_body or endpoint.inputs:
        responses["422"] = _error("a field does not fit", "InvalidInput")
    refused = [
        f"{status}: {text}" for status, text in _REFUSED.items() if endpoint.has_body or status not in _OF_BODIES
    ]
    responses["4XX"] = _error("; ".join(refused), "Error")
    responses["5XX"] = _error(_FAILED, "Error")
    if form.results.has_response:
        responses["default"] = {"description": "what the method answers itself", "content": {"*/*": {}}}
    return responses


def _error(description: str, schema: str) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": {"$ref": _REF.format(model=schema)}}}}


def _result(form: Forms, schemas: _Schemas) -> dict[str, Any]:
    schema = schemas.result(form)
    if isinstance(form.results, Items):
        found = Property(schema, schemas.definitions).resolved()
        name = found.get("title", found.get("type", "value"))
        text = f"what the method yields, one {name} per line or event; a fault after the first is the last: an Error"
        lines = {"schema": {"type": "string"}, "x-item-schema": schema}
        events = [_event("message", schema), _event("error", {"$ref": _REF.format(model="Error")})]
        return {"description": text, "content": {LINES: lines, EVENTS: {"schema": {"anyOf": events}}}}
    binary = {"type": "string", "format": "binary"}
    content = {media: {"schema": schema if media == JSON else binary} for media in form.results.media}
    return {"description": "the result", "content": content}


def _event(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """One event of a stream; who does not say its name is a message."""
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
    required = ["data"] if name == "message" else ["event", "data"]
    return {"type": "object", "properties": {"event": {"const": name}, "data": data}, "required": required}
