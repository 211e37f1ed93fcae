"""One network of the plates: STN or LPRNet, by ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from plates_plain import Network


class TritonPythonModel:
    """Runs the ONNX file that lies beside it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the file."""
        self.network = Network(Path(args["model_repository"]) / args["model_version"] / "model.onnx")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Join the crops of all requests, run them as one batch, and give each request its own."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        batch = self.network(np.concatenate(inputs))
        answers, start = [], 0
        for x in inputs:
            rows = batch[start : start + len(x)]
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", rows)]))
            start += len(x)
        return answers
