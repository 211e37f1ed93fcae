"""`preprocess` in samovar.toml: a model of pixels takes images."""

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import models
import samovar
from samovar.config.declared import Declared
from samovar.errors import ConfigError, InvalidInputError
from samovar.runtimes import Question, describe, load
from samovar.worker.warm_up import warm_up_of

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
PHOTO = Image.fromarray(PIXELS)


def file_of(image: Image.Image, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def model(folder: Path, shape: Sequence[int | str] = ("batch", 3, 24, 24), kind: str = "FLOAT") -> Path:
    """`output` is what arrives."""
    return models.echo(folder / "net.onnx", kind, shape)


def prepared(path: Path, settings: Any, *files: bytes) -> Any:
    with samovar.load(path, preprocess=settings) as loaded:
        assert [tensor.name for tensor in loaded.signature.inputs] == ["image"]
        return loaded.predict(list(files))


def refused(path: Path, settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        samovar.load(path, preprocess=settings)
    return str(caught.value)


def test_the_steps_are_resize_crop_scale_mean_and_std(tmp_path: Path) -> None:
    settings = {"resize": 32, "crop": 24, "mean": MEAN, "std": STD}
    found = prepared(model(tmp_path), settings, file_of(PHOTO), file_of(PHOTO.rotate(90, expand=True)))
    resized = np.asarray(PHOTO.resize((48, 32), Image.Resampling.BILINEAR), np.float32)
    wanted = ((resized[4:28, 12:36] / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(2, 0, 1)
    assert found.shape == (2, 3, 24, 24)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "kind", "settings", "wanted"),
    [
        (("batch", 40, 60, 3), "FLOAT", {}, lambda x: x / np.float32(255)),
        (("batch", 3, 40, 60), "FLOAT", {"scale": 1}, lambda x: x.transpose(2, 0, 1)),
        (
            ("batch", 3, 40, 60),
            "FLOAT",
            {"scale": 1, "mean": 100, "std": 2},
            lambda x: (x.transpose(2, 0, 1) - 100.0) / 2,
        ),
        (("batch", 3, 40, 60), "FLOAT16", {"scale": 1, "channels": "BGR"}, lambda x: x[..., ::-1].transpose(2, 0, 1)),
        (("batch", 40, 60, 3), "UINT8", {}, lambda x: x),
        (("batch", 3, "h", "w"), "UINT8", {"crop": [20, 30]}, lambda x: x[10:30, 15:45].transpose(2, 0, 1)),
        (("batch", 1, 40, 60), "UINT8", {}, lambda x: np.asarray(PHOTO.convert("L"))[None]),
        (("batch", 3, 3, 3), "FLOAT", {"layout": "NHWC", "scale": 1, "resize": [3, 3], "resample": "nearest"}, None),
    ],
)
def test_layout_channels_and_datatype_are_those_of_the_input(
    tmp_path: Path, shape: Sequence[int | str], kind: str, settings: Any, wanted: Callable[[Any], Any] | None
) -> None:
    (found,) = prepared(model(tmp_path, shape, kind), settings, file_of(PHOTO))
    if wanted is None:
        assert found.tolist() == np.asarray(PHOTO.resize((3, 3), Image.Resampling.NEAREST)).tolist()
    else:
        np.testing.assert_allclose(found, wanted(PIXELS), rtol=1e-6)


def test_an_image_may_be_jpeg_and_base64_as_json_carries_it(tmp_path: Path) -> None:
    photo = file_of(PHOTO, "jpeg")
    text = base64.b64encode(photo)
    found = prepared(model(tmp_path), {}, photo, text, b"data:image/jpeg;base64," + text)
    assert found[0].tolist() == found[1].tolist() == found[2].tolist()


def test_what_a_smaller_image_lacks_of_the_crop_is_black(tmp_path: Path) -> None:
    white = file_of(Image.new("RGB", (24, 10), (255, 255, 255)))
    (found,) = prepared(model(tmp_path), {"crop": 24}, white)
    assert (found[:, 7:17] == 1).all()
    assert found.sum() == 3 * 10 * 24


def test_no_rows_are_no_images_and_a_model_without_batches_takes_one(tmp_path: Path) -> None:
    assert prepared(model(tmp_path), {}).shape == (0, 3, 24, 24)
    with samovar.load(model(tmp_path, (3, 24, 24)), preprocess={}) as loaded:
        assert loaded.predict(file_of(PHOTO)).shape == (3, 24, 24)
    assert prepared(model(tmp_path, (1, 3, 24, 24)), {}, file_of(PHOTO)).shape == (1, 3, 24, 24)


def test_other_inputs_stay_as_they_are(tmp_path: Path) -> None:
    shape = ("batch", 3, 8, 8)
    path = models.write(
        tmp_path / "net.onnx",
        [models.node("Mul", ["pixels", "image"], ["output"])],
        [("pixels", "FLOAT", shape), ("image", "FLOAT", ("batch", 1, 1, 1))],
        [("output", "FLOAT", shape)],
    )
    assert "of which 2 inputs may be pixels; name one of them" in refused(path, {})
    with samovar.load(path, preprocess={"input": "pixels"}) as loaded:
        found = loaded.predict(pixels=[file_of(PHOTO)], image=[[[[2.0]]]])
        assert found.shape == (1, 3, 8, 8)
    assert 'no input "x" of pixels' in refused(path, {"input": "x"})


@pytest.mark.parametrize("content", [b"", b"no image", file_of(PHOTO)[:50], b"A" * 40, b"data:image/png;base64,\xff"])
def test_what_is_no_image_is_named_by_its_place(tmp_path: Path, content: bytes) -> None:
    with (
        samovar.load(model(tmp_path), preprocess={}) as loaded,
        pytest.raises(InvalidInputError, match=r'^element 1 of input "image": '),
    ):
        loaded.predict([file_of(PHOTO), content])


def test_bombs_are_refused(tmp_path: Path) -> None:
    wide = file_of(Image.new("L", (400_000, 2)))
    large = file_of(Image.new("1", (8_000, 7_000)))
    with samovar.load(model(tmp_path), preprocess={"resize": 24, "crop": 24}) as loaded:
        loaded.predict([file_of(Image.new("L", (4_000, 2)))])
        with pytest.raises(InvalidInputError, match="8000 x 7000, more than 50 megapixels"):
            loaded.predict([large])
    with (
        samovar.load(model(tmp_path), preprocess={"resize": 5_000, "crop": 24}) as loaded,
        pytest.raises(InvalidInputError, match="400000 x 2, too long for its shorter side to be resized; crop it"),
    ):
        loaded.predict([wide])


SMALL = ("batch", 3, 8, 8)
FAULTS: dict[str, tuple[Sequence[int | str], dict[str, Any], str]] = {
    "unknown key": (SMALL, {"resise": 8}, 'unknown key "resise" in preprocess of net.onnx; did you mean "resize"?'),
    "size": (SMALL, {"resize": [8]}, "preprocess.resize of net.onnx is [8]; it wants [height, width], or one"),
    "zero": (SMALL, {"crop": 0}, "preprocess.crop of net.onnx is 0; it wants [height, width]"),
    "std": (SMALL, {"std": [1, 0, 1]}, "preprocess.std of net.onnx is [1, 0, 1]; it wants a number other than 0"),
    "word": (SMALL, {"resample": "cubic"}, "preprocess.resample of net.onnx is 'cubic'; it wants one of nearest,"),
    "truth": (SMALL, {"scale": True}, "preprocess.scale of net.onnx is True; it wants what pixels"),
    "count": (SMALL, {"mean": [1, 2]}, "preprocess.mean has 2 numbers for the 3 channels of input"),
    "other size": (SMALL, {"resize": [4, 8]}, "preprocess makes images of 4 x 8 (height x width) of input"),
    "any size": (
        ("batch", 3, "h", "w"),
        {"resize": 8},
        "preprocess leaves images of several sizes, which are no batch of input",
    ),
    "layout": (("batch", "c", 8, 8), {}, "preprocess cannot tell the layout of input"),
    "channels": (
        ("batch", 1, 8, 8),
        {"channels": "RGB"},
        "preprocess makes 3 channels of RGB, in the layout NCHW, but not 1",
    ),
    "axes": (("batch", 8), {}, 'preprocess is set for model "net", which has no input of pixels: three axes or more'),
}


@pytest.mark.parametrize(("shape", "settings", "message"), FAULTS.values(), ids=FAULTS)
def test_what_contradicts_itself_or_the_model_is_told(
    tmp_path: Path, shape: Sequence[int | str], settings: dict[str, Any], message: str
) -> None:
    assert refused(model(tmp_path, shape), settings).startswith(message)


def test_bytes_are_not_scaled(tmp_path: Path) -> None:
    assert refused(model(tmp_path, kind="UINT8"), {"mean": 0.5}).endswith("which takes bytes; leave it out")


def processor(folder: Path, **content: Any) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(content))


PROCESSORS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "clip": (
        {
            "do_resize": True,
            "size": {"shortest_edge": 32},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": 24, "width": 24},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": MEAN,
            "image_std": STD,
            "do_convert_rgb": True,
        },
        {"resize": 32, "resample": "bicubic", "crop": [24, 24], "mean": MEAN, "std": STD},
    ),
    "vit": (
        {
            "size": {"height": 24, "width": 24},
            "do_normalize": True,
            "image_mean": MEAN,
            "image_std": STD,
            "resample": 2,
        },
        {"resize": [24, 24], "mean": MEAN, "std": STD},
    ),
    "numbers": (
        {
            "size": 32,
            "do_center_crop": True,
            "crop_size": 24,
            "do_normalize": False,
            "image_mean": MEAN,
            "image_std": STD,
        },
        {"resize": 32, "crop": 24},
    ),
    "square": ({"size": 24, "do_rescale": False}, {"resize": [24, 24], "scale": 1}),
    "convnext": ({"size": {"shortest_edge": 24}, "crop_pct": 0.75, "do_rescale": True}, {"resize": 32, "crop": 24}),
    "convnext, large": (
        {"size": {"shortest_edge": 400}, "image_processor_type": "ConvNextImageProcessor"},
        {"resize": [400, 400]},
    ),
    "deit": (
        {"size": 32, "do_center_crop": True, "crop_size": 24, "feature_extractor_type": "DeiTFeatureExtractor"},
        {"resize": [32, 32], "crop": 24},
    ),
    "fast": (
        {"size": 32, "do_center_crop": True, "crop_size": 24, "image_processor_type": "CLIPImageProcessorFast"},
        {"resize": 32, "crop": 24},
    ),
}


@pytest.mark.parametrize(("content", "settings"), PROCESSORS.values(), ids=PROCESSORS)
def test_the_file_of_an_image_processor_says_the_same(
    tmp_path: Path, content: dict[str, Any], settings: dict[str, Any]
) -> None:
    path = model(tmp_path, ("batch", 3, "height", "width"))
    wanted = prepared(path, settings, file_of(PHOTO))
    processor(tmp_path, **content)
    assert prepared(path, True, file_of(PHOTO)).tolist() == wanted.tolist()


def test_a_table_completes_that_file(tmp_path: Path) -> None:
    processor(tmp_path, size=24, image_mean=MEAN, image_std=STD)
    found = prepared(model(tmp_path), {"mean": 0, "resample": "nearest"}, file_of(PHOTO))
    wanted = prepared(model(tmp_path / "bare"), {"resample": "nearest", "std": STD}, file_of(PHOTO))
    assert found.tolist() == wanted.tolist()


def test_a_whole_table_needs_no_file_that_can_be_followed(tmp_path: Path) -> None:
    processor(tmp_path, size=24, image_processor_type="LevitImageProcessor")
    settings = {"crop": 24, "mean": MEAN, "std": STD}
    wanted = prepared(model(tmp_path / "bare"), settings, file_of(PHOTO))
    assert prepared(model(tmp_path), settings, file_of(PHOTO)).tolist() == wanted.tolist()
    assert "is of LevitImageProcessor" in refused(model(tmp_path), {"crop": 24, "mean": MEAN})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"size": 24, "do_pad": true}', 'sets "do_pad", which preprocess does not know; declare resize or crop, mean'),
        ('{"size": 24, "image_processor_type": "LevitImageProcessor"}', "is of LevitImageProcessor, which may do more"),
        ('{"size": 24, "image_processor_type": 3}', "is of 3, which may do more"),
        ('{"size": 24, "do_flip_channel_order": true}', 'sets "do_flip_channel_order", which preprocess does not know'),
        ('{"size": {"longest_edge": 24}}', "has the size {'longest_edge': 24}, which preprocess does not know"),
        ('{"size": 24, "crop_pct": 0.9}', 'sets "crop_pct", which preprocess knows beside size.shortest_edge alone'),
        ('{"sampling_rate": 16000}', "is not of an image processor"),
        ('{"size": 24, "resample": 17}', "resample of"),
        ("{", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_followed_is_told(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(content)
    assert message in refused(model(tmp_path), True)


def test_without_a_file_there_is_nothing_to_be_true(tmp_path: Path) -> None:
    assert "but no preprocessor_config.json lies beside it; put it there" in refused(model(tmp_path), True)


def test_a_file_alone_changes_nothing_and_is_told_of(tmp_path: Path) -> None:
    processor(tmp_path, size=24)
    for declared, has_note in ((None, True), (False, False)):
        (found,) = describe(Question(model(tmp_path), declared=Declared(preprocess=declared)))
        assert [tensor["datatype"] for tensor in found["inputs"]] == ["FP32"]
        assert ("preprocess = true in samovar.toml" in found["source"].get("note", "")) == has_note
    (found,) = describe(Question(model(tmp_path, ("batch", 8))))
    assert "note" not in found["source"]


def test_the_warm_up_runs_black_images(tmp_path: Path) -> None:
    (found,) = describe(Question(model(tmp_path), declared=Declared(preprocess={})))
    options = {"warm_up": True, "writable_inputs": False, "max_batch_size": 4, "worker": "own", "threads": 1}
    spec = json.loads(json.dumps({**found, "options": options}))
    warm_up = warm_up_of(spec, load(spec))
    assert warm_up is not None
    assert warm_up.run() is None


@pytest.mark.parametrize(
    ("upper", "lower", "both"),
    [
        (None, {"crop": 8}, {"crop": 8}),
        (True, {"crop": 8}, {"crop": 8}),
        (False, {"crop": 8}, False),
        ({"crop": 8}, {"crop": 4, "scale": 1}, {"crop": 8, "scale": 1}),
        ({"crop": 8}, True, {"crop": 8}),
        (True, None, True),
    ],
)
def test_tables_complete_each_other(upper: Any, lower: Any, both: Any) -> None:
    assert Declared(preprocess=upper).over(Declared(preprocess=lower)).preprocess == both


def test_a_class_prepares_its_images_itself(program: Callable[..., Path]) -> None:
    path = program(
        '@samovar.model\nclass M:\n    def predict(self, x: Float32[np.ndarray, "3 8 8"]) -> '
        'Float32[np.ndarray, "3 8 8"]: ...'
    )
    with pytest.raises(ConfigError, match=r'sets "preprocess", but the model is a Python class'):
        samovar.load(path, preprocess={})
