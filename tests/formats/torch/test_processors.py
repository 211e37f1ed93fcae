"""The file of an image processor: `preprocess = true` gives the pixels that the processor itself gives."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from samovar.config.declared import Declared
from samovar.runtimes import Question
from samovar.runtimes.preprocess import load_with_images, with_images

CHANCE = np.random.default_rng(0)
WIDE = Image.fromarray(CHANCE.integers(0, 256, (9, 13, 3), np.uint8)).resize((333, 251), Image.Resampling.BICUBIC)
PHOTOS = [WIDE, WIDE.rotate(90, expand=True)]
PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("Beit", {}),
    ("Bit", {}),
    ("Blip", {}),
    ("CLIP", {}),
    ("ChineseCLIP", {}),
    ("ConvNext", {"size": {"shortest_edge": 224}}),
    ("ConvNext", {"size": {"shortest_edge": 384}}),
    ("DeiT", {}),
    ("MobileNetV1", {}),
    ("MobileNetV2", {}),
    ("OwlViT", {}),
    ("Pvt", {}),
    ("Segformer", {}),
    ("Siglip", {}),
    ("ViT", {}),
]


class Echo:
    """A model that returns what it gets."""

    is_async = streams = is_user_code = False
    samples = None

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def predict(self, inputs: Any) -> Any:
        return inputs[0]


def pixels(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    """What a model of this folder, whose input has this shape behind the batch axis, gets of the photos."""
    tensor = {"name": "pixel_values", "datatype": "FP32", "dims": list(shape)}
    model = {"name": "net", "inputs": [tensor], "source": {}, "imports": []}
    spec = with_images(Question(folder / "net.onnx", declared=Declared(preprocess=True)), model)
    files = np.empty(len(PHOTOS), object)
    for index, photo in enumerate(PHOTOS):
        buffer = io.BytesIO()
        photo.save(buffer, "png")
        files[index] = buffer.getvalue()
    whole = {**spec, "outputs": [], "batch_axis": True}
    found: np.ndarray = load_with_images(whole, lambda _: Echo()).predict([files])
    return found


@pytest.mark.parametrize(("backend", "most"), [("", 2.01), ("Pil", 0.01)], ids=["torchvision", "pillow"])
@pytest.mark.parametrize(("name", "options"), PROCESSORS)
def test_a_processor_that_is_followed_gives_the_same(
    tmp_path: Path, name: str, options: dict[str, Any], backend: str, most: float
) -> None:
    processor = getattr(transformers, f"{name}ImageProcessor{backend}")(**options)
    processor.save_pretrained(tmp_path)
    wanted = np.stack([processor(images=photo, return_tensors="np")["pixel_values"][0] for photo in PHOTOS])
    found = pixels(tmp_path, wanted.shape[1:])
    levels = np.abs(found - wanted) * 255
    if processor.do_normalize:
        levels *= np.array(processor.image_std, np.float32)[:, None, None]
    assert levels.max() <= most
    assert levels.mean() < 0.1
