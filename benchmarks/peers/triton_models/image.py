"""The model of the image benchmark."""

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The mean of each picture of FP32[batch, 3, 224, 224]."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer for each request of a batch; joined in one array they would only be copied."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        means = [x.mean(axis=(1, 2, 3))[:, None] for x in inputs]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", mean)]) for mean in means]
