"""Named tuples, and dataclasses with images, bytes or arrays in them: objects in JSON, keyed by their fields."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic_core import CoreSchema, core_schema

__all__ = ["RecordValue"]


class RecordValue:
    """How pydantic reads and writes one such class; `fields` are annotations that it knows."""

    def __init__(self, cls: type, fields: Mapping[str, Any]) -> None:
        self._class = cls
        self._fields = fields

    def __get_pydantic_core_schema__(self, _: Any, handler: Any) -> CoreSchema:
        optional = _with_defaults(self._class)
        fields = {
            name: core_schema.typed_dict_field(handler.generate_schema(annotation), required=name not in optional)
            for name, annotation in self._fields.items()
        }
        table = core_schema.typed_dict_schema(fields, extra_behavior="forbid")
        made = core_schema.no_info_after_validator_function(lambda values: self._class(**values), table)
        # JSON stays JSON in there: a function before it would make Python objects of it, which are read otherwise.
        return core_schema.json_or_python_schema(
            made,
            core_schema.no_info_before_validator_function(self._table, made),
            serialization=core_schema.wrap_serializer_function_ser_schema(
                lambda value, serialize: serialize(self._table(value)), schema=table
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        table = schema["json_schema"]["schema"]
        found: dict[str, Any] = handler(table)
        return {"title": self._class.__name__, **found}

    def _table(self, value: Any) -> Any:
        if isinstance(value, self._class):
            return {name: getattr(value, name) for name in self._fields}
        if isinstance(value, tuple) and len(value) == len(self._fields):
            return dict(zip(self._fields, value, strict=True))
        return value


def _with_defaults(cls: Any) -> frozenset[str]:
    """The fields that may be left out."""
    if not dataclasses.is_dataclass(cls):
        return frozenset(cls._field_defaults)
    missing = dataclasses.MISSING
    return frozenset(
        field.name
        for field in dataclasses.fields(cls)
        if field.default is not missing or field.default_factory is not missing
    )
