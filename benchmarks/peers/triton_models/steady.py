"""The model of the batching benchmark: 5 ms a batch, and 10 us more for each row."""

import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """FP32[batch, 16], unchanged."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Join the rows of all requests, run them as one batch, and give each request its own."""
        inputs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        batch = np.concatenate(inputs)
        time.sleep(0.005 + 10e-6 * len(batch))
        answers, start = [], 0
        for x in inputs:
            rows = batch[start : start + len(x)]
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", rows)]))
            start += len(x)
        return answers
