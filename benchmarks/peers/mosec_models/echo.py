"""The model of the echo benchmark."""

import numpy as np
from mosec import Server, Worker


class Echo(Worker):
    """FP32[batch, 16], unchanged."""

    def forward(self, data: list[list[float]]) -> list[list[float]]:
        return np.array(data, np.float32).tolist()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo)
    server.run()
