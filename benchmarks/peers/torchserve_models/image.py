"""The model of the image benchmark, as somebody writes it who has TorchServe."""

from typing import Any

import numpy as np


class Image:
    """The mean of each picture."""

    def initialize(self, context: Any) -> None:
        """Nothing to load."""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """FP32[batch, 3, 224, 224] in, FP32[batch, 1] out."""
        del context
        pictures = (np.array(request["body"]["x"], np.float32) for request in data)
        return [x.mean(axis=(1, 2, 3))[:, None].tolist() for x in pictures]
