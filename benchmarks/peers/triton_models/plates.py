"""The pipeline of the plates: the detector here, the networks in models of their own."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from plates_plain import Detector, decode, read


class TritonPythonModel:
    """From UINT8[n], a JPEG, to BYTES[n], the texts of its plates."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the cascade."""
        del args
        self.detector = Detector()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request."""
        photos = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        texts = [self.recognize(photo) for photo in photos]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", np.array(each, np.object_))]) for each in texts]

    def recognize(self, photo: np.ndarray) -> list[str]:
        """The texts of one photo."""
        crops = self.detector.detect(decode(photo))
        return read(call("lprnet", call("stn", crops))) if len(crops) else []


def call(model: str, x: np.ndarray) -> np.ndarray:
    """Ask another model of this server."""
    request = pb_utils.InferenceRequest(
        model_name=model, requested_output_names=["y"], inputs=[pb_utils.Tensor("x", x)]
    )
    answer = request.exec()
    if answer.has_error():
        raise pb_utils.TritonModelException(answer.error().message())
    y: np.ndarray = pb_utils.get_output_tensor_by_name(answer, "y").as_numpy()
    return y
