"""The same pipeline as a model: tensors in, tensors out, for clients of the Open Inference Protocol."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, UInt8

import samovar
from plates import Detector, read


class Texts(NamedTuple):
    texts: samovar.Bytes[np.ndarray, "n"]
    confidences: Float64[np.ndarray, "n"]
    boxes: Int32[np.ndarray, "n 4"]


@samovar.model
class PlatesPipeline:
    detector = samovar.use(Detector)
    stn = samovar.use("stn.onnx")
    lprnet = samovar.use("lprnet.onnx")

    def predict(self, image: UInt8[np.ndarray, "height width 3"]) -> Texts:
        """What `Plates.recognize` gives."""
        found = self.detector.predict.sync(image)
        plates = []
        if len(found.boxes):
            plates = read(self.lprnet.predict.sync(self.stn.predict.sync(found.crops)), found.boxes)
        return Texts(
            np.array([plate.text.encode() for plate in plates], object),
            np.array([plate.confidence for plate in plates], np.float64),
            np.array([plate.box for plate in plates], np.int32).reshape(-1, 4),
        )
