"""Texts of forms, queries and paths as the values that a schema wants."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from samovar.service.schemas import Property, has_contents

__all__ = ["TextReader", "Unread"]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# What JSON says, and what a browser's form says of a box that is ticked.
_TRUTHS = {"true": True, "on": True, "false": False, "off": False}


class Unread(ValueError):  # noqa: N818 - what a client sent, no fault of the program
    """A text is none of what is wanted; the message says what that is."""


class TextReader:
    """Reads the texts of one field.

    A text stays one wherever the schema allows it; numbers, truths and null are written as in JSON, objects and lists
    of lists as JSON. What is no text (an uploaded file) stays as it is.
    """

    def __init__(self, found: Property) -> None:
        self._types = found.types()
        items = found.items() if "array" in self._types else None
        self._items = TextReader(items) if items is not None else None
        self._is_contents = has_contents(found)

    def read(self, values: Sequence[Any]) -> Any:
        """The value of a field that occurs once or, as a list, several times. Raises Unread."""
        if self._items is not None and not self._is_file(values):
            whole = self._whole_list(values)
            return [self._items.read_one(value) for value in values] if whole is None else whole
        if len(values) > 1:
            raise Unread(f"Input should be given once, not {len(values)} times")
        return self.read_one(values[0])

    def read_one(self, text: Any) -> Any:
        """The value of one text. Raises Unread."""
        if not isinstance(text, str) or not self._types:
            return text
        if text[:1] in ("{", "[") and not self._types.isdisjoint({"array", "object"}):
            value = _json(text)
            if value is not None or "string" not in self._types:
                return value
        if "string" in self._types:
            return text
        return self._plain(text)

    def _is_file(self, values: Sequence[Any]) -> bool:
        """True for the one file that an array came in."""
        return len(values) == 1 and isinstance(values[0], bytes) and not self._is_contents

    def _plain(self, text: str) -> Any:
        if "null" in self._types and text in ("", "null"):
            return None
        if "boolean" in self._types and text.lower() in _TRUTHS:
            return _TRUTHS[text.lower()]
        if not self._types.isdisjoint({"integer", "number"}) and _NUMBER.fullmatch(text):
            return _json(text)
        raise Unread(f"Input should be {' or '.join(sorted(_shown(name) for name in self._types))}")

    def _whole_list(self, values: Sequence[Any]) -> Any:
        """The list that a single text says in JSON; None if it says an element."""
        text = values[0]
        if len(values) != 1 or not isinstance(text, str) or text[:1] != "[":
            return None
        value = _json(text)
        assert self._items is not None
        nested = "array" in self._items._types  # noqa: SLF001 - of the same class
        is_element = nested and isinstance(value, list) and not all(isinstance(item, list) for item in value)
        return None if is_element else value


def _json(text: str) -> Any:
    """The value that a text says, None where it is no JSON."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        return None


def _shown(name: str) -> str:
    return {"null": "null", "boolean": "true or false"}.get(name, f"{'an' if name[0] in 'aeio' else 'a'} {name}")
