"""The model of the payload benchmark."""

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """How many bytes came."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", np.array([x.size]))]) for x in inputs]
