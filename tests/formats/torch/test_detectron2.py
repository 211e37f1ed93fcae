"""Detectron2 folders, against a fake of Detectron2, which is in no package index."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from formats.compared import Arrays, check_answers, refusal
from serving import Serve

FORMAT = "detectron2"
CONFIG = """\
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  WEIGHTS: detectron2://not/to/be/fetched.pkl
  MASK_ON: {masks}
INPUT:
  FORMAT: BGR
  MIN_SIZE_TEST: 16
  MAX_SIZE_TEST: 64
"""
IMAGE = np.zeros((8, 12, 3), np.uint8)
IMAGE[2:6, 3:9] = (250, 100, 50)


@pytest.fixture(autouse=True)
def _detectron(fake: Callable[[str, str], bool]) -> None:
    if not fake("detectron2", "detectron2"):
        pytest.skip("Detectron2 is installed, and these weights are of its fake")


def written(folder: Path, *, masks: bool = False) -> Path:
    """A folder as the training loop leaves it."""
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG.format(masks=str(masks).lower()))
    torch.save({"model": {"threshold": torch.tensor([60.0])}, "iteration": 9}, folder / "model_final.pth")
    return folder


def expected(_: Arrays) -> Arrays:
    """The bright part in the image's own size; the first channel of BGR is blue."""
    return {
        "boxes": np.array([[3, 2, 9, 6]], np.float32),
        "scores": np.array([50 / 255], np.float32),
        "classes": np.array([7]),
    }


def test_an_image_is_prepared_and_its_instances_are_outputs(serve: Serve, tmp_path: Path) -> None:
    folder = written(tmp_path / "finder")
    served = check_answers(serve, folder, {"image": IMAGE}, expected, has_batches=False)
    described = served.http.get("/v2/models/finder").json()
    assert described["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]}]
    nothing = served.http.infer("finder", {"image": IMAGE * 0}).arrays()
    assert nothing["boxes"].shape == (0, 4)


def test_masks_are_an_output_where_the_configuration_has_them(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(written(tmp_path / "masking", masks=True)), timeout_s=120.0)
    found = served.grpc.infer_binary("masking", {"image": IMAGE}).arrays()
    assert found["masks"].shape == (1, 8, 12)
    assert found["masks"].dtype == bool


class Malicious:
    """Its pickle leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_weights_run_no_code(serve: Serve, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    folder = written(tmp_path / "pickled")
    torch.save({"model": {"threshold": Malicious(mark)}}, folder / "model_final.pth")
    assert "model_final.pth of pickled cannot be read" in refusal(serve, folder)
    assert not mark.exists()


def test_a_configuration_runs_no_code(serve: Serve, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    folder = written(tmp_path / "tagged")
    with (folder / "config.yaml").open("a") as file:
        file.write(f"VERSION: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{mark}]]\n")
    assert "config.yaml of tagged cannot be read" in refusal(serve, folder)
    assert not mark.exists()


def test_damaged_folders_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    cut = written(tmp_path / "cut")
    content = (cut / "model_final.pth").read_bytes()
    (cut / "model_final.pth").write_bytes(content[: len(content) // 2])
    other = written(tmp_path / "other")
    torch.save({"model": {"weight": torch.zeros(1)}}, other / "model_final.pth")
    based = written(tmp_path / "based")
    with (based / "config.yaml").open("a") as file:
        file.write('"_BASE_": https://example.org/base.yaml\n')
    served = serve(*map(str, (cut, other, based)), "echo.py:EchoFp32", timeout_s=120.0)
    assert served.http.get("/v2/models/echo_fp32/ready").status == 200
    told = " ".join(str(line) for line in served.errors(3))
    assert "model_final.pth of cut cannot be read" in told
    assert "model_final.pth of other has no threshold" in told
    assert "config.yaml of based builds upon another file" in told
