"""The pipeline of examples/plates, as somebody writes it who has TorchServe: it has no workflows any more."""

from pathlib import Path
from typing import Any

from plates_plain import Pipeline


class Plates:
    """One handler holds all three models."""

    def initialize(self, context: Any) -> None:
        """They lie in the archive, which is unpacked by now."""
        self.pipeline = Pipeline(Path(context.system_properties["model_dir"]))

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """The texts of each photo's plates."""
        del context
        return [self.pipeline.recognize(bytes(request["body"])) for request in data]
