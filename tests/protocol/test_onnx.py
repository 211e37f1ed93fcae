"""ONNX files behind a real engine: no configuration, and what can be configured."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import models
from serving import NotReadyError, Serve, both_transports
from watching import metric
from watching import threads as running_threads


def settings(folder: Path, text: str) -> list[str]:
    """The options of an engine with this configuration file."""
    path = folder / "samovar.toml"
    path.write_text(text)
    return ["--config", str(path)]


@both_transports
def test_a_file_is_served_without_configuration(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path / "double.onnx")))
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(served.http.infer("double", {"x": x}).arrays()["output"], x * 2)
    np.testing.assert_array_equal(served.http.infer_binary("double", {"x": x}).arrays()["output"], x * 2)
    assert served.http.get("/v2/models/double").json() == {
        "name": "double",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 3]}],
    }


@both_transports
@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "STRING", "BOOL", "INT64", "DOUBLE", "UINT8"])
def test_datatypes_pass_unchanged(serve: Serve, tmp_path: Path, kind: str) -> None:
    served = serve(str(models.echo(tmp_path / "echo.onnx", kind)))
    datatype = served.http.get("/v2/models/echo").json()["inputs"][0]["datatype"]
    if kind == "STRING":
        x = np.array([["ä".encode(), b""], [b"c", b"dd"]], object)
    else:
        sizes = {"FP16": "f2", "BF16": "u2", "BOOL": "?", "INT64": "i8", "FP64": "f8", "UINT8": "u1"}
        x = np.array([[1, 0], [3, 4]], sizes[datatype])
    if datatype == "BF16":  # numpy has none: the same bytes
        import ml_dtypes

        x = x.view(ml_dtypes.bfloat16)
    output = served.http.infer_binary("echo", {"x": x}).arrays()["output"]
    assert (output.dtype, output.tolist()) == (x.dtype, x.tolist())


def test_two_inputs_two_outputs_and_one_of_them_wanted(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.sums(tmp_path / "sums.onnx")))
    inputs = {"b": np.ones((2, 3), np.float32), "a": np.full((2, 3), 5, np.float32)}
    arrays = served.http.infer("sums", inputs).arrays()
    assert (arrays["total"][0, 0], arrays["difference"][0, 0]) == (6, 4)
    assert list(served.http.infer_binary("sums", inputs, ["difference"]).arrays()) == ["difference"]


def test_clients_share_a_call(serve: Serve, tmp_path: Path) -> None:
    options = settings(tmp_path, "[models.double]\nmax_batch_size = 4\nmax_queue_delay_ms = 20_000\n")
    served = serve(str(models.scale(tmp_path / "double.onnx")), options=options)
    rows = [np.full((1, 3), n, np.float32) for n in range(4)]
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda x: served.http.infer("double", {"x": x}).arrays()["output"], rows))
    for x, output in zip(rows, answers, strict=True):
        np.testing.assert_array_equal(output, x * 2)
    assert metric(served, "samovar_batches_total", model="double") == 1
    assert metric(served, "samovar_items_total", model="double") == 4


def test_a_fault_of_one_row_does_not_reach_its_neighbours(serve: Serve, tmp_path: Path) -> None:
    options = settings(tmp_path, "[models.lookup]\nmax_batch_size = 4\nmax_queue_delay_ms = 20_000\n")
    served = serve(str(models.lookup(tmp_path / "lookup.onnx")), options=options)
    with ThreadPoolExecutor(4) as clients:
        found = list(clients.map(lambda n: served.http.infer("lookup", {"index": np.array([n])}), (0, 9, 1, 2)))
    assert [answer.status for answer in found] == [200, 500, 200, 200]
    assert found[1].code() == "model_error"
    assert "out of data bounds" in found[1].json()["error"]
    assert [found[n].arrays()["output"].tolist() for n in (0, 2, 3)] == [[10], [20], [30]]
    assert metric(served, "samovar_worker_restarts_total") == 0


def test_what_does_not_fit_the_file_is_refused_at_the_door(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path / "double.onnx")))
    for x in (np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float64), np.zeros(3, np.float32)):
        answer = served.http.infer("double", {"x": x})
        assert (answer.status, answer.code()) == (400, "invalid_input")


def test_a_file_without_batch_axis_or_inputs_runs_alone(serve: Serve, tmp_path: Path) -> None:
    nodes = [models.node("Identity", ["c"], ["output"])]
    constant = models.write(
        tmp_path / "constant.onnx", nodes, [], [("output", "FLOAT", (2,))], {"c": np.array([1, 2], np.float32)}
    )
    scalar = models.echo(tmp_path / "scalar.onnx", shape=())
    free = models.echo(tmp_path / "free.onnx", shape=None)
    served = serve(str(constant), str(scalar), str(free))
    assert served.http.infer("constant", {}).arrays()["output"].tolist() == [1, 2]
    assert served.http.infer("scalar", {"x": np.array(2.5, np.float32)}).arrays()["output"].tolist() == 2.5
    assert served.http.get("/v2/models/free").json()["inputs"][0]["shape"] == [-1]
    for shape in ((), (3,), (1, 2, 3)):
        x = np.ones(shape, np.float32)
        assert served.http.infer_binary("free", {"x": x}).arrays()["output"].shape == shape


def test_threads_are_those_of_one_instance(serve: Serve, tmp_path: Path) -> None:
    def tasks(threads: int) -> int:
        options = settings(tmp_path, f"[models.double]\nthreads = {threads}\n")
        (worker,) = serve(file, options=["--spare-workers", "0", *options]).workers()
        return running_threads(worker)

    file = str(models.scale(tmp_path / "double.onnx"))
    assert tasks(4) - tasks(1) == 3  # what libraries start besides is the same


def test_files_and_classes_are_served_together_and_a_bad_one_alone_fails(serve: Serve, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    served = serve(str(bad), str(models.scale(tmp_path / "double.onnx")), "echo.py:EchoFp32")
    states = {model["name"]: model["state"] for model in served.ready["models"]}
    assert states == {"bad": "failed", "double": "ready", "echo_fp32": "ready"}
    assert served.model("bad")["cause"]["next_step"] == "run: git lfs pull"
    x = np.ones((1, 3), np.float32)
    assert served.http.infer("double", {"x": x}).status == 200
    assert served.http.infer("bad", {"x": x}).code() == "model_failed"


def test_a_setting_that_contradicts_the_file_fails_the_start_with_its_cure(serve: Serve, tmp_path: Path) -> None:
    file = str(models.echo(tmp_path / "fixed.onnx", shape=(1, 3)))
    with pytest.raises(NotReadyError, match=r"max_batch_size = 8 but no batch axis; name the first axis"):
        serve(file, options=settings(tmp_path, "[models.fixed]\nmax_batch_size = 8\n"))


def test_a_killed_worker_is_replaced(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(models.scale(tmp_path / "double.onnx")))
    killed = served.workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(served.http.infer("double", {"x": x}).arrays()["output"], x * 2)
    assert not set(killed) & set(served.workers())
