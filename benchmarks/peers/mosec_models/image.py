"""The model of the image benchmark, by a route for each form."""

from typing import Any

import numpy as np
from mosec import Server, Worker


class Json(Worker):
    """The mean of each picture of FP32[batch, 3, 224, 224]."""

    def forward(self, data: list[Any]) -> list[list[float]]:
        return mean(np.array(data, np.float32)).tolist()


class Binary(Worker):
    """The same, where bodies are the bytes of the arrays."""

    resp_mime_type = "application/octet-stream"

    def deserialize(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.float32).reshape(-1, 3, 224, 224)

    def forward(self, data: np.ndarray) -> np.ndarray:
        return mean(data)

    def serialize(self, data: np.ndarray) -> bytes:
        return data.tobytes()


def mean(x: np.ndarray) -> np.ndarray:
    """FP32[batch, 1]."""
    return x.mean(axis=(1, 2, 3))[:, None]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Json, route="/json")
    server.append_worker(Binary, route="/binary")
    server.run()
