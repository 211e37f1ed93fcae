"""The model of the echo benchmark."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """FP32[batch, 16], unchanged."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request of a batch."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]) for x in inputs]
