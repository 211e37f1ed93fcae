"""Requests that a method is not called for."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["ClientGone", "InvalidFields", "Refusal"]


class InvalidFields(Exception):  # noqa: N818 - what a client sent, no fault of the program
    """What was sent does not fit; `details` are FastAPI's: `type`, `loc`, `msg`, `input` each."""

    def __init__(self, source: str, details: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(source, details)
        self.details = [{**detail, "loc": [source, *detail["loc"]]} for detail in details]


class Refusal(Exception):  # noqa: N818 - what a client sent, no fault of the program
    """A request that is answered with an error of the catalogue."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ClientGone(Exception):  # noqa: N818 - nobody is told
    """The connection ended before the request was whole."""
