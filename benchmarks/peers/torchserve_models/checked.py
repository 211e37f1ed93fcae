"""The model of the rows of faults, as somebody writes it who has TorchServe."""

from typing import Any

import checked_plain
import numpy as np


class Checked:
    """See checked_plain."""

    def initialize(self, context: Any) -> None:
        """Nothing to load."""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """TorchServe has decoded the JSON, and encodes what this gives."""
        del context
        return [checked_plain.run(np.array(request["body"]["x"])).tolist() for request in data]
