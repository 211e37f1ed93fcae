"""The model of the batching benchmark: 5 ms a batch, and 10 us more for each row."""

import json
import sys
import time

import numpy as np
from mosec import Server, Worker

Rows = list[list[float]]


class Steady(Worker):
    """FP32[batch, 16], unchanged."""

    def forward(self, data: list[Rows]) -> list[Rows]:
        """Join the rows of all requests, run them as one batch, and give each request its own."""
        batch = np.concatenate([np.array(rows, np.float32) for rows in data])
        time.sleep(0.005 + 10e-6 * len(batch))
        answers, start = [], 0
        for rows in data:
            answers.append(batch[start : start + len(rows)].tolist())
            start += len(rows)
        return answers


if __name__ == "__main__":
    server = Server()
    server.append_worker(Steady, **json.loads(sys.argv[1]))
    server.run()
