"""The model of the payload benchmark, as somebody writes it who has TorchServe."""

from typing import Any


class Length:
    """How many bytes came."""

    def initialize(self, context: Any) -> None:
        """Nothing to load."""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """The body is what it is, in a bytearray."""
        del context
        return [len(request["body"]) for request in data]
