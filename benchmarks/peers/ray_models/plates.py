"""The pipeline of examples/plates, as somebody writes it who has Ray Serve: a deployment a model, as its guide has it.

One deployment that holds all three takes less memory and processor, and was no faster.
"""

from pathlib import Path
from threading import Lock

import numpy as np
import plates_plain
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

HERE = Path(__file__).parent
# Four replicas on two cores; a replica takes one by default.
DEPLOYMENT = {"max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": 0.25}}


@serve.deployment(**DEPLOYMENT)
class Detector:
    """Takes the file, as a photo is twenty times larger."""

    def __init__(self) -> None:
        self.detector = plates_plain.Detector()
        # Not max_ongoing_requests=1: a caller that finds a replica busy tries again later and later.
        self.one_at_a_time = Lock()

    def detect(self, jpeg: bytes) -> np.ndarray:
        """FP32[n, 3, 24, 94]: what is where plates may be."""
        image = plates_plain.decode(jpeg)
        with self.one_at_a_time:
            return self.detector.detect(image)


@serve.deployment(**DEPLOYMENT)
class Network:
    """One of the ONNX files."""

    def __init__(self, file: str) -> None:
        self.network = plates_plain.Network(HERE / file)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """What it makes of them."""
        return self.network(batch)


@serve.deployment(**DEPLOYMENT)
class Plates:
    """The way in."""

    def __init__(self, detector: DeploymentHandle, stn: DeploymentHandle, lprnet: DeploymentHandle) -> None:
        self.detector, self.stn, self.lprnet = detector, stn, lprnet

    async def __call__(self, request: Request) -> list[str]:
        """The texts of a photo's plates."""
        crops = await self.detector.detect.remote(await request.body())
        if not len(crops):
            return []
        return plates_plain.read(await self.lprnet.predict.remote(self.stn.predict.remote(crops)))


app = Plates.bind(
    Detector.bind(), Network.options(name="Stn").bind("stn.onnx"), Network.options(name="LprNet").bind("lprnet.onnx")
)
