"""TensorRT engines, against a fake of TensorRT and of CUDA: neither runs without a GPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats.compared import check_answers, check_damage, refusal
from serving import Serve

FORMAT = "tensorrt"
X = np.arange(24, dtype=np.float32).reshape(8, 3)


@pytest.fixture(autouse=True)
def _engines(fake: Callable[[str, str], bool]) -> None:
    if not fake("tensorrt", "tensorrt"):
        pytest.skip("TensorRT is installed, and these engines are of its fake")


def written(path: Path, length: int = -1, kind: str = "FLOAT", **profile: Any) -> Path:
    """An engine that doubles x into y, of batches of 1 to 8 or of one length."""
    import tensorrt

    tensors = [
        {"name": "x", "mode": "INPUT", "kind": kind, "shape": [length, 3]},
        {"name": "y", "mode": "OUTPUT", "kind": kind, "shape": [length, 3]},
    ]
    lengths = [1, 4, 8] if length < 0 else [length] * 3
    facts = {"tensors": tensors, "profile": {"x": [[count, 3] for count in lengths], **profile}}
    path.write_bytes(tensorrt.MAGIC + json.dumps(facts).encode())
    return path


def test_an_engine_answers_batches_within_its_profile(serve: Serve, tmp_path: Path) -> None:
    path = written(tmp_path / "net.plan")
    served = check_answers(serve, path, {"x": X}, lambda arrays: {"y": arrays["x"] * 2})
    described = served.http.get("/v2/models/net").json()
    assert described["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    more = np.ones((19, 3), np.float32)  # in three calls
    np.testing.assert_array_equal(served.http.infer("net", {"x": more}).arrays()["y"], more * 2)


def test_a_longer_batch_than_the_profile_allows_cannot_be_set(serve: Serve, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[models.net]\nmax_batch_size = 9\n")
    told = refusal(serve, written(tmp_path / "net.engine"), "--config", str(settings))
    assert "max_batch_size = 9 is more than the 8 of net.engine" in told


def test_a_batch_of_one_is_served_one_at_a_time(serve: Serve, tmp_path: Path) -> None:
    path = written(tmp_path / "one.plan", length=1)
    check_answers(serve, path, {"x": X[:1]}, lambda arrays: {"y": arrays["x"] * 2}, has_batches=False)


def test_a_datatype_without_numbers_of_numpy_is_refused(serve: Serve, tmp_path: Path) -> None:
    assert "BF16, which cannot be sent" in refusal(serve, written(tmp_path / "half.plan", kind="BF16"))


def test_a_gpu_that_is_not_there_is_told(serve: Serve, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[models.net]\nruntime_options = { device = 1 }\n")
    assert "GPU 1 cannot be used" in refusal(serve, written(tmp_path / "net.plan"), "--config", str(settings))


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    check_damage(serve, written(tmp_path / "net.plan"), "TensorRT")
