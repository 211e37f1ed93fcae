"""Texts of forms, queries and paths as the values that a schema wants."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from samovar.service.schemas import Property, has_contents, is_part

__all__ = ["TextReader", "Unread", "takes_nothing"]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# To pydantic seconds since 1970, which no schema of a date has.
_SECONDS = re.compile(r"[+-]?[0-9]*\.?[0-9]*")
_DATES = ("date", "date-time")
# What JSON says, and what a browser's form says of a box that is ticked.
_TRUTHS = {"true": True, "on": True, "false": False, "off": False}
_NAMES = {"null": "nothing", "boolean": "true or false"}
_NO_JSON = object()


class Unread(ValueError):  # noqa: N818 - what a client sent, no fault of the program
    """A text is none of what is wanted; the message says what that is."""


class TextReader:
    """Reads the texts of one field.

    A text stays one wherever the schema allows it; numbers and truths are written as in JSON, and no text at all is
    null. Where a value may be an object or a list of lists, every text is JSON if it can be. What is no text (an
    uploaded file) stays as it is.
    """

    def __init__(self, found: Property) -> None:
        self._types = found.types()
        self._choices = [choice.schema for choice in found.alternatives()]
        items = found.items() if "array" in self._types else None
        self._items = TextReader(items) if items is not None else None
        self._is_contents = has_contents(found)
        self._is_json = not is_part(found)
        self._takes_nothing = takes_nothing(found)

    def read(self, values: Sequence[Any]) -> Any:
        """The value of a field that occurs once or, as a list, several times. Raises Unread."""
        if self._takes_nothing and values == [""]:
            return None
        if self._items is not None and not self._is_file(values):
            whole = self._whole_list(values)
            return [self._items.read_one(value) for value in values] if whole is None else whole
        if len(values) > 1:
            raise Unread(f"Input should be given once, not {len(values)} times")
        return self.read_one(values[0])

    def read_one(self, text: Any) -> Any:
        """The value of one text. Raises Unread."""
        if not isinstance(text, str):
            return text
        if self._is_json or ("array" in self._types and text[:1] == "["):
            value = _json(text)
            if value is not _NO_JSON:
                return value
        is_text = not self._types or any(_takes(schema, text) for schema in self._choices)
        return text if is_text else self._plain(text)

    def _is_file(self, values: Sequence[Any]) -> bool:
        """True for the one file that an array came in."""
        return len(values) == 1 and isinstance(values[0], bytes) and not self._is_contents

    def _plain(self, text: str) -> Any:
        if "null" in self._types and not text:
            return None
        if "boolean" in self._types and text.lower() in _TRUTHS:
            return _TRUTHS[text.lower()]
        if not self._types.isdisjoint({"integer", "number"}) and _NUMBER.fullmatch(text):
            return _json(text)
        raise Unread(f"Input should be {' or '.join(sorted({_shown(schema) for schema in self._choices}))}")

    def _whole_list(self, values: Sequence[Any]) -> Any:
        """The list that a single text says in JSON; None if it says an element."""
        text = values[0]
        if len(values) != 1 or not isinstance(text, str) or text[:1] != "[":
            return None
        value = _json(text)
        assert self._items is not None
        nested = "array" in self._items._types  # noqa: SLF001 - of the same class
        is_element = nested and isinstance(value, list) and not all(isinstance(item, list) for item in value)
        return None if is_element or value is _NO_JSON else value


def takes_nothing(found: Property) -> bool:
    """True if a field that is left empty is null, which is how browsers send it."""
    items = found.items()
    texts = [choice.schema for of in (found, items) if of is not None for choice in of.alternatives()]
    return "null" in found.types() and not any(_takes(schema, "") for schema in texts)


def _takes(schema: Mapping[str, Any], text: str) -> bool:
    """True if a text may stay one; how long it is, or whether it is a date, is not judged here."""
    if "enum" in schema or "const" in schema:
        return text in _words(schema)
    return "string" in _kinds(schema) and not (schema.get("format") in _DATES and _SECONDS.fullmatch(text))


def _words(schema: Mapping[str, Any]) -> list[Any]:
    return schema["enum"] if "enum" in schema else [schema["const"]]


def _json(text: str) -> Any:
    """The value that a text says, _NO_JSON where it is none."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        return _NO_JSON


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    return [schema["type"]] if isinstance(schema["type"], str) else schema["type"]


def _shown(schema: Mapping[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return " or ".join(map(repr, _words(schema)))
    kinds = [schema["format"]] if schema.get("format") in _DATES else _kinds(schema)
    return " or ".join(_NAMES.get(kind) or f"{'an' if kind[0] in 'aeio' else 'a'} {kind}" for kind in kinds)
