"""The model of the image benchmark."""

import sys
from typing import Any

import litserve
import numpy as np


class Image(litserve.LitAPI):
    """The mean of each picture of FP32[batch, 3, 224, 224]."""

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        return np.array(request["x"], np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.mean(axis=(1, 2, 3))[:, None]

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return {"y": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Image()).run(port=int(sys.argv[1]))
