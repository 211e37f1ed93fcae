"""The model of the echo benchmark."""

import sys
from typing import Any

import litserve
import numpy as np


class Echo(litserve.LitAPI):
    """FP32[batch, 16], unchanged."""

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        return np.array(request["x"], np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return {"y": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Echo()).run(port=int(sys.argv[1]))
