"""JSON schemas: those of pydantic's models, and what is read from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

__all__ = [
    "Property",
    "SchemaGenerator",
    "as_part",
    "has_contents",
    "is_part",
    "is_scalar",
    "properties_of",
    "without_null",
]

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


class SchemaGenerator(GenerateJsonSchema):
    """pydantic's, which says nothing of a default that no JSON can be."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's own attribute

    def float_schema(self, schema: core_schema.FloatSchema) -> dict[str, Any]:
        """NaN and infinity leave as null."""
        found = super().float_schema(schema)
        return {**found, "type": ["number", "null"]} if self.mode == "serialization" else found

    def encode_default(self, dft: Any) -> Any:
        """A named tuple is an object."""
        return super().encode_default(dft._asdict() if hasattr(dft, "_asdict") else dft)


@dataclass(frozen=True)
class Property:
    """One key of an object's schema, with the definitions that it refers to."""

    schema: Mapping[str, Any]
    definitions: Mapping[str, Any]
    is_required: bool = True

    def resolved(self) -> Mapping[str, Any]:
        """The schema itself where this one is a reference."""
        schema = self.schema
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        return schema

    def part(self, schema: Mapping[str, Any]) -> "Property":
        """A schema within this one."""
        return Property(schema, self.definitions)

    def alternatives(self) -> Iterator["Property"]:
        """What a value may be: the members of a union, or this alone."""
        schema = self.resolved()
        choices = schema.get("anyOf") or schema.get("oneOf")
        if choices is None:
            yield self.part(schema)
            return
        for choice in choices:
            yield from self.part(choice).alternatives()

    def types(self) -> frozenset[str]:
        """The JSON types that a value may have; none where it may have any."""
        found: set[str] = set()
        for choice in self.alternatives():
            schema = choice.schema
            if "type" in schema:
                found.update([schema["type"]] if isinstance(schema["type"], str) else schema["type"])
            elif "enum" in schema or "const" in schema:
                values = schema.get("enum", [schema.get("const")])
                found.update("null" if value is None else _TYPES[type(value)] for value in values)
            else:
                return frozenset()
        return frozenset(found)

    def items(self) -> "Property | None":
        """The elements, where a value may be a list of equal ones."""
        for choice in self.alternatives():
            if isinstance(choice.schema.get("items"), dict):
                return self.part(choice.schema["items"])
        return None


def properties_of(model: type[BaseModel]) -> dict[str, Property]:
    """What a JSON object that fits `model` has."""
    schema = model.model_json_schema(schema_generator=SchemaGenerator)
    definitions, required = schema.get("$defs", {}), schema.get("required", ())
    return {
        name: Property(found, definitions, name in required) for name, found in schema.get("properties", {}).items()
    }


def has_contents(found: Property) -> bool:
    """True for bytes, images and files, and lists of them: base64 in JSON alone."""
    items = found.items()
    if items is not None:
        return has_contents(items)
    return any("contentEncoding" in choice.schema for choice in found.alternatives())


def is_scalar(found: Property) -> bool:
    """True for what one text says: the field of a form, a parameter of a query."""
    types = found.types()
    return bool(types) and types.isdisjoint({"array", "object"})


def is_part(found: Property) -> bool:
    """True for what a form's fields say: scalars, files, and lists of them."""
    items = found.items()
    if items is not None:
        return found.types() <= {"array", "null"} and is_scalar(items)
    return is_scalar(found)


def as_part(found: Property) -> dict[str, Any]:
    """The schema of a form's field: no base64, no null; a list that must be there has an element."""
    schema = without_null(found)
    if schema.get("contentEncoding") == "base64":
        media = schema.get("contentMediaType", "application/octet-stream")
        form = "image" if media.startswith("image/") else "binary"
        kept: dict[str, Any] = {key: schema[key] for key in ("title", "description") if key in schema}
        return {**kept, "type": "string", "format": form, "contentMediaType": media}
    items = found.items()
    if items is not None:
        schema["items"] = as_part(items)
        if found.is_required:
            schema["minItems"] = max(schema.get("minItems", 0), 1)
    return schema


def without_null(found: Property) -> dict[str, Any]:
    """The schema for a place where absence says null."""
    schema = dict(found.schema)
    if "anyOf" not in schema:
        return schema
    choices = [choice for choice in schema["anyOf"] if choice.get("type") != "null"]
    if schema.get("default", ...) is None:
        del schema["default"]
    if len(choices) != 1:
        return {**schema, "anyOf": choices}
    del schema["anyOf"]
    return {**choices[0], **schema}
