"""The model of the batching benchmark: 5 ms a batch, and 10 us more for each row."""

import json
import sys
import time
from typing import Any

import litserve
import numpy as np


class Steady(litserve.LitAPI):
    """FP32[batch, 16], unchanged."""

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        return np.array(request["x"], np.float32)

    def batch(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
        """The rows of all requests, and where each ends."""
        return np.concatenate(inputs), np.cumsum([len(rows) for rows in inputs]).tolist()

    def predict(self, x: tuple[np.ndarray, list[int]]) -> tuple[np.ndarray, list[int]]:
        time.sleep(0.005 + 10e-6 * len(x[0]))
        return x

    def unbatch(self, output: tuple[np.ndarray, list[int]]) -> list[np.ndarray]:
        rows, ends = output
        return [rows[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        return {"y": output.tolist()}


if __name__ == "__main__":
    port, batching, serving = map(json.loads, sys.argv[1:])
    litserve.LitServer(Steady(**batching), **serving).run(port=port)
