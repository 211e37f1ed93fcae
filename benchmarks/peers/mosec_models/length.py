"""The model of the payload benchmark."""

import numpy as np
from mosec import Server, Worker


class Length(Worker):
    """How many bytes came."""

    def deserialize(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.uint8)

    def forward(self, data: np.ndarray) -> list[int]:
        return [data.size]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Length)
    server.run()
