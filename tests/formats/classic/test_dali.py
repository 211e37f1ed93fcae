"""DALI pipelines, by DALI on the processor where it is installed and by a fake of it elsewhere."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from formats.compared import Arrays, check_answers, check_damage, refusal
from serving import Serve

FORMAT = "dali"
RAW = np.array([bytes(range(count)) for count in (3, 5, 1, 127)], object)  # JSON has texts alone
INPUTS = {"x": np.arange(24, dtype=np.float32).reshape(4, 2, 3), "raw": RAW}
DECLARED = """\
inputs = [
    { name = "x", datatype = "FP32", shape = ["batch", 2, 3] },
    { name = "raw", datatype = "BYTES", shape = ["batch"] },
]
outputs = [
    { name = "doubled", datatype = "FP32", shape = ["batch", 2, 3] },
    { name = "summed", datatype = "INT64", shape = ["batch"] },
]
"""
Written = Callable[..., Path]


@pytest.fixture
def written(fake: Callable[[str, str], bool], tmp_path: Path) -> Written:
    """Save a pipeline: x doubled, and what is done with raw."""
    is_fake = fake("nvidia.dali", "dali")

    def write(does: str = "sum") -> Path:
        path = tmp_path / "pipe.dali"
        if is_fake:
            from nvidia import dali

            path.write_bytes(dali.MAGIC + json.dumps([["double", "x"], [does, "raw"]]).encode())
        else:
            _serialize(path, does)
        return path

    return write


def _serialize(path: Path, does: str) -> None:
    from nvidia.dali import fn, pipeline_def, types

    def summed(raw: object) -> object:
        return fn.cast(fn.reductions.sum(fn.cast(raw, dtype=types.INT32)), dtype=types.INT64)

    @pipeline_def(batch_size=4, num_threads=1, device_id=None)
    def pipe() -> tuple[object, object]:
        x = fn.external_source(name="x", dtype=types.FLOAT, ndim=2)
        raw = fn.external_source(name="raw", dtype=types.UINT8, ndim=1)
        operations = {"sum": summed, "same": lambda raw: raw, "decode": fn.decoders.image}
        return x * 2.0, operations[does](raw)

    pipeline = pipe()
    pipeline.build()
    pipeline.serialize(filename=str(path))


def expected(arrays: Arrays) -> Arrays:
    return {"doubled": arrays["x"] * 2, "summed": np.array([sum(raw) for raw in arrays["raw"]], np.int64)}


def test_a_pipeline_runs_batches_of_any_length(serve: Serve, written: Written) -> None:
    check_answers(serve, written(), INPUTS, expected, options=DECLARED)


def test_what_is_to_be_declared_is_told(serve: Serve, written: Written) -> None:
    told = refusal(serve, written())
    assert "pipe.dali does not say what its inputs and outputs are" in told
    assert "fn.external_source" in told


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('name = "raw"', 'name = "row"', 'has no input \\"row\\"'),
        ('["batch"] },\n]\noutputs', "[-1] },\n]\noutputs", "without a batch axis"),
        ('    { name = "summed", datatype = "INT64", shape = ["batch"] },\n', "", "has 2 outputs, not the 1"),
    ],
    ids=["input", "batch", "outputs"],
)
def test_what_is_declared_otherwise_is_told(
    serve: Serve, written: Written, tmp_path: Path, old: str, new: str, fault: str
) -> None:
    settings = tmp_path / "settings.toml"
    assert old in DECLARED
    settings.write_text(f"[models.pipe]\n{DECLARED.replace(old, new)}")
    assert fault in refusal(serve, written(), "--config", str(settings))


def test_samples_of_different_shapes_are_refused(serve: Serve, written: Written, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    declared = DECLARED.replace('"summed", datatype = "INT64", shape = ["batch"]', '"raw", shape = ["batch", -1]')
    settings.write_text(f"[models.pipe]\n{declared}")
    served = serve(str(written("same")), options=["--config", str(settings)], timeout_s=120.0)
    answer = served.http.infer("pipe", INPUTS)
    assert answer.status == 500
    assert b"samples of different shapes" in answer.body


def test_an_image_that_is_none_fails_its_own_call_alone(serve: Serve, written: Written, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    image = '"image", datatype = "UINT8", shape = ["batch", 2, 2, 3]'
    declared = DECLARED.replace('"summed", datatype = "INT64", shape = ["batch"]', image)
    settings.write_text(f"[models.pipe]\n{declared}")
    content = BytesIO()
    Image.new("RGB", (2, 2)).save(content, "png")
    served = serve(str(written("decode")), options=["--config", str(settings)], timeout_s=120.0)
    x = INPUTS["x"][:1]
    for raw, is_image in ((content.getvalue(), True), (b"no image", False), (content.getvalue(), True)):
        answer = served.http.infer_binary("pipe", {"x": x, "raw": np.array([raw], object)})
        assert answer.status == (200 if is_image else 500)
        if is_image:
            np.testing.assert_array_equal(answer.arrays()["image"], np.zeros((1, 2, 2, 3), np.uint8))
            np.testing.assert_array_equal(answer.arrays()["doubled"], x * 2)


def test_damaged_files_hurt_no_neighbour(serve: Serve, written: Written) -> None:
    check_damage(serve, written(), "DALI")
