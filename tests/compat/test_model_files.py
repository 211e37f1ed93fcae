"""`tritonclient`, unchanged, and a file that PyTorch exported."""

from types import ModuleType

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from serving import Serve

FEATURES = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


@pytest.mark.parametrize(("triton", "door"), [(tritonclient.http, "http"), (tritonclient.grpc, "grpc")])
def test_a_file_is_called_as_triton_would_be(serve: Serve, triton: ModuleType, door: str) -> None:
    served = serve("iris.onnx")
    with triton.InferenceServerClient(f"127.0.0.1:{served.ready['ports'][door]}") as client:
        features = triton.InferInput("features", FEATURES.shape, "FP32")
        features.set_data_from_numpy(FEATURES)
        probabilities = client.infer("iris", [features]).as_numpy("probabilities")
    np.testing.assert_array_almost_equal(probabilities, [[0.1627, 0.3975, 0.4398], [0.2420, 0.4059, 0.3521]], 4)
