"""The model of the echo benchmark, as somebody writes it who has TorchServe."""

from typing import Any

import numpy as np


class Echo:
    """FP32[batch, 16], unchanged."""

    def initialize(self, context: Any) -> None:
        """Nothing to load."""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """TorchServe has decoded the JSON, and encodes what this gives."""
        del context
        return [np.array(request["body"]["x"], np.float32).tolist() for request in data]
