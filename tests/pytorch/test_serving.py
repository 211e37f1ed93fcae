"""Files of torch behind a real engine."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from pytorch.modules import Double, Linear, Rectified, Sums, quiet, scripted, traced
from serving import Serve, both_transports
from watching import metric

DECLARED = """
inputs = [{ name = "x", datatype = "FP32", shape = ["batch", 3] }]
outputs = [{ name = "output", datatype = "FP32", shape = ["batch", 3] }]
max_batch_size = 4
max_queue_delay_ms = 20_000
"""


@both_transports
def test_an_undeclared_module_takes_any_tensor_one_request_at_a_time(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(scripted(Double(), tmp_path / "double.pt")))
    assert served.http.get("/v2/models/double").json()["inputs"] == [
        {"name": "x", "datatype": "UNKNOWN", "shape": [-1]}
    ]
    for x in (np.ones((2, 3), np.float32), np.array(3, np.int64), np.ones((1, 1, 5), np.float64)):
        output = served.http.infer_binary("double", {"x": x}).arrays()["output"]
        np.testing.assert_array_equal(output, x * 2)
        assert output.dtype == x.dtype
    assert served.http.infer("double", {"x": np.ones(2, np.float32)}).arrays()["output"].tolist() == [2, 2]
    assert metric(served, "samovar_batches_total", model="double") == 4


@both_transports
def test_a_module_that_writes_into_its_input_lives(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(scripted(Rectified(), tmp_path / "rectified.pt")))
    before = served.workers()
    x = np.array([[-1, 2]], np.float32)
    assert served.http.infer_binary("rectified", {"x": x}).arrays()["output"].tolist() == [[0, 2]]
    assert set(before) == set(served.workers())


def test_a_traced_module_with_declared_shapes_is_batched_across_clients(serve: Serve, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = scripted(Double(), tmp_path / "double.pt", DECLARED)
    served = serve(str(path))
    assert served.http.get("/v2/models/double").json()["inputs"][0]["shape"] == [-1, 3]
    rows = [np.full((1, 3), n, np.float32) for n in range(4)]
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda x: served.http.infer("double", {"x": x}).arrays()["output"], rows))
    for x, output in zip(rows, answers, strict=True):
        np.testing.assert_array_equal(output, x * 2)
    assert metric(served, "samovar_batches_total", model="double") == 1
    bad = served.http.infer("double", {"x": np.ones((1, 4), np.float32)})
    assert (bad.status, bad.code()) == (400, "invalid_input")


def test_settings_beside_the_file_name_its_outputs(serve: Serve, tmp_path: Path) -> None:
    path = traced(Sums(), tmp_path / "sums.pt", torch.zeros(1, 3), torch.zeros(1, 3))
    (tmp_path / "samovar.toml").write_text('outputs = [{ name = "total" }, { name = "difference" }]\n')
    served = serve(str(path))
    inputs = {"a": np.ones((1, 3), np.float32), "b": np.ones((1, 3), np.float32)}
    answer = served.http.infer("sums", inputs).arrays()
    assert (answer["total"].tolist(), answer["difference"].tolist()) == ([[2, 2, 2]], [[0, 0, 0]])


def test_a_fault_of_a_module_is_a_short_answer(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(scripted(Linear(), tmp_path / "linear.pt")))
    answer = served.http.infer("linear", {"x": np.ones((1, 4), np.float32)})
    assert (answer.status, answer.code()) == (500, "model_error")
    assert "mat1 and mat2 shapes cannot be multiplied" in answer.json()["error"]
    assert "Traceback" not in answer.json()["error"]
    assert "Traceback of TorchScript" in served.output()


def test_a_killed_worker_is_replaced(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(scripted(Double(), tmp_path / "double.pt")))
    for pid in served.workers():
        os.kill(pid, signal.SIGKILL)
    assert served.http.infer("double", {"x": np.ones(2, np.float32)}).arrays()["output"].tolist() == [2, 2]


@pytest.mark.parametrize("batch_name", ["batch", "N"])
def test_a_model_that_torch_exported_to_onnx_needs_no_configuration(
    serve: Serve, tmp_path: Path, batch_name: str
) -> None:
    module = Linear().eval()
    path = tmp_path / "linear.onnx"
    axes = {"x": {0: torch.export.Dim(batch_name)}}
    with quiet():
        torch.onnx.export(
            module, (torch.zeros(2, 3),), path, input_names=["x"], output_names=["y"], dynamic_shapes=axes
        )
    served = serve(str(path))
    assert served.http.get("/v2/models/linear").json()["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
    ]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(served.http.infer("linear", {"x": x}).arrays()["y"], expected, rtol=1e-5)
    index = served.http.get("/v2/models/linear/config").json()
    assert index["max_batch_size"] == 64
