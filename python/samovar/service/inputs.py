"""The inputs of a method from what a request has: one pydantic model for its body, one for each other place."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticUndefined, from_json, to_json

from samovar.service.endpoints import NO_DEFAULT, Parameter
from samovar.service.kinds import holds_file, is_decoded, typed
from samovar.service.refusals import InvalidFields, Refusal
from samovar.service.schemas import Property, has_contents, properties_of
from samovar.service.texts import TextReader, Unread

__all__ = ["Inputs"]

_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)


class Inputs:
    """The parameters of a method that come from one `source` of a request: path, query or body."""

    def __init__(self, place: str, source: str, title: str, parameters: Sequence[Parameter]) -> None:
        self.source = source
        self.parameters = tuple(parameters)
        self._names = {f"p{index}": parameter.name for index, parameter in enumerate(parameters)}
        self.model = _model(place, title, parameters)
        self.files = frozenset(parameter.name for parameter in parameters if holds_file(parameter.annotation))
        # Images are decoded, arrays made of files: not on the event loop.
        self.is_heavy = any(is_decoded(parameter.annotation) for parameter in parameters)
        self._validator = self.model.__pydantic_validator__
        self.properties: dict[str, Property] = properties_of(self.model)
        self.contents = frozenset(name for name, found in self.properties.items() if has_contents(found))
        self._readers = {name: TextReader(found) for name, found in self.properties.items()}

    @property
    def is_optional(self) -> bool:
        """True if nothing need be sent."""
        return all(not found.is_required for found in self.properties.values())

    def of_json(self, body: bytes, lengths: dict[str, int]) -> dict[str, Any]:
        """The values in a JSON object: no text becomes a number. Raises InvalidFields or Refusal."""
        try:
            model = self._validator.validate_json(body, strict=True, context=lengths)
        except ValidationError as error:
            if not _has_whole_float(error):
                raise self._invalid(error) from None
            return self.of_json(to_json(_with_whole_numbers(from_json(body))), {})
        return self._values(model)

    def of_values(self, values: Mapping[str, Any], lengths: dict[str, int]) -> dict[str, Any]:
        """Checked values. Raises InvalidFields."""
        try:
            model = self._validator.validate_python(dict(values), context=lengths)
        except ValidationError as error:
            raise self._invalid(error) from None
        return self._values(model)

    def of_fields(self, fields: Sequence[tuple[str, Any]], lengths: dict[str, int]) -> dict[str, Any]:
        """The values of a form's fields or a query's, in which a list is a field several times.

        Their texts become what the annotations say. Raises InvalidFields.
        """
        found: dict[str, list[Any]] = {}
        for name, value in fields:
            found.setdefault(name, []).append(value)
        values: dict[str, Any] = {}
        faults = []
        for name, texts in found.items():
            reader = self._readers.get(name)
            try:
                values[name] = texts[0] if reader is None else reader.read(texts)
            except Unread as error:
                faults.append({"type": "text", "loc": (name,), "msg": str(error), "input": texts[0]})
        if faults:
            raise InvalidFields(self.source, faults)
        if self.contents.isdisjoint(values) and all(isinstance(text, str) for _, text in fields):
            return self.of_json(to_json(values), lengths)  # what stands in an object is no text that becomes a number
        return self.of_values(values, lengths)

    def _values(self, model: BaseModel) -> dict[str, Any]:
        found = model.__dict__
        return {name: found[field] for field, name in self._names.items()}

    def _invalid(self, error: ValidationError) -> InvalidFields | Refusal:
        details = error.errors(include_url=False, include_context=False)
        if details[0]["type"] == "json_invalid":
            return Refusal(
                "invalid_request", f"the body is no JSON: {details[0]['msg'].removeprefix('Invalid JSON: ')}"
            )
        return InvalidFields(self.source, details)


def _has_whole_float(error: ValidationError) -> bool:
    """True if an integer was written as 3.0, which is one by JSON Schema, though not to pydantic's strict mode."""
    return any(
        detail["type"] == "int_type" and isinstance(detail["input"], float) and _is_whole(detail["input"])
        for detail in error.errors(include_url=False, include_context=False)
    )


def _with_whole_numbers(value: Any) -> Any:
    """The same JSON, with 3 for 3.0: an integer will do wherever a number does."""
    if isinstance(value, dict):
        return {key: _with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and _is_whole(value) else value


def _is_whole(value: float) -> bool:
    return abs(value) < 2**63 and value.is_integer()


def _model(place: str, title: str, parameters: Sequence[Parameter]) -> type[BaseModel]:
    """The fields have names of their own: one called `copy` or `_x` would be none of pydantic's liking."""
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        kind = typed(f'parameter "{parameter.name}" of {place}', parameter.annotation)
        default = PydanticUndefined if parameter.default is NO_DEFAULT else parameter.default
        fields[f"p{index}"] = (Annotated[kind, Field(alias=parameter.name)], default)
    model: type[BaseModel] = create_model(title, __config__=_CONFIG, **fields)
    return model
