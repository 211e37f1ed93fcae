"""The model of the rows of faults."""

import sys

import numpy as np
from benchmarks.peers import checked_plain
from mosec import Server, Worker


class Checked(Worker):
    """See checked_plain."""

    def forward(self, data: list[list[float]]) -> list[list[float]]:
        return checked_plain.run(np.array(data)).tolist()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Checked, num=int(sys.argv[1]))
    server.run()
