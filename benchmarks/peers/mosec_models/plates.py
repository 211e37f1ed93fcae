"""The pipeline of the plates: a stage for each of its three models."""

import numpy as np
from benchmarks.peers.plates_plain import MODELS, Detector, Network, decode, read
from mosec import Server, Worker


class Detect(Worker):
    """From a JPEG to what may be plates."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = Detector()

    def deserialize(self, data: bytes) -> np.ndarray:
        return decode(data)

    def forward(self, data: np.ndarray) -> np.ndarray:
        return self.detector.detect(data)


class Stn(Worker):
    """Straightens them."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(MODELS / "stn.onnx")

    def forward(self, data: np.ndarray) -> np.ndarray:
        return self.network(data) if len(data) else data


class LprNet(Worker):
    """Reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(MODELS / "lprnet.onnx")

    def forward(self, data: np.ndarray) -> list[str]:
        return read(self.network(data)) if len(data) else []


if __name__ == "__main__":
    server = Server()
    server.append_worker(Detect)
    server.append_worker(Stn)
    server.append_worker(LprNet)
    server.run()
