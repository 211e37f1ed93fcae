"""A network of pixels that takes images, by `preprocess` in samovar.toml: through every door, in batches, bad ones."""

import base64
import io
import json
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import models
from commands import run
from serving import Serve, Served

SETTINGS = """
[models.net]
instances = 2
max_queue_delay_ms = 50
[models.net.preprocess]
resize = 12
crop = [8, 10]
mean = [0.5, 0.5, 0.5]
std = 0.25
"""
CHANCE = np.random.default_rng(0)
PHOTOS = [CHANCE.integers(0, 256, (20 + index, 30, 3), np.uint8) for index in range(8)]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def wanted(pixels: np.ndarray) -> np.ndarray:
    height, width = 12, 12 * 30 // len(pixels)
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    top, left = (height - 8) // 2, (width - 10) // 2
    found = (resized[top : top + 8, left : left + 10] / 255 - 0.5) / 0.25
    return found.transpose(2, 0, 1)


FILES = [png(pixels) for pixels in PHOTOS]
WANTED = np.stack([wanted(pixels) for pixels in PHOTOS])


def texts(values: list[bytes]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.fixture
def served(serve: Serve, tmp_path: Path) -> Served:
    path = models.echo(tmp_path / "net.onnx", shape=("batch", 3, 8, 10))
    settings = tmp_path / "settings.toml"
    settings.write_text(SETTINGS)
    return serve(str(path), options=["--config", str(settings)])


def test_every_door_takes_images(served: Served) -> None:
    assert served.http.get("/v2/models/net").json()["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    for count in (1, 3, 8):
        images = {"image": texts(FILES[:count])}
        as_text = {"image": texts([base64.b64encode(file) for file in FILES[:count]])}
        for answer in (
            served.http.infer("net", as_text),
            served.http.infer_binary("net", images),
            served.grpc.infer("net", images),
            served.grpc.infer_binary("net", images),
        ):
            np.testing.assert_allclose(answer.arrays()["output"], WANTED[:count], rtol=1e-5, atol=1e-6)


def test_a_bad_image_is_the_fault_of_its_own_request(served: Served) -> None:
    requests = [[FILES[index]] for index in range(8)] * 3
    for place in (2, 9, 20):
        requests[place] = [*requests[place], b"no image at all"]
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(lambda files: served.http.infer_binary("net", {"image": texts(files)}), requests))
    for index, answer in enumerate(answers):
        if index in (2, 9, 20):
            assert (answer.status, answer.code()) == (400, "invalid_input")
            assert 'element 1 of input "image": no image can be read' in answer.json()["error"]
        else:
            np.testing.assert_allclose(answer.arrays()["output"][0], WANTED[index % 8], rtol=1e-5, atol=1e-6)


def test_the_lines_that_inspect_prints_work(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(FILES[0])
    models.echo(folder / "net.onnx", shape=("batch", 3, 8, 10))
    (folder / "samovar.toml").write_text(SETTINGS)
    monkeypatch.chdir(folder)
    shown = run("inspect", "net.onnx", "--sample", "request.json")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert "resize 12, resample bilinear, crop [8,10], channels RGB" in shown.out
    words = shlex.split(next(line for line in lines if line.startswith("call")))[2:]
    assert words == ["infer", "net", "--input", "image=@photo.jpg"]
    url = f"http://127.0.0.1:{served.port}"
    ran = run(*words, "--url", url)
    assert (ran.code, ran.out.splitlines()[0]) == (0, "output  FP32 [1,3,8,10]")
    curl = next(line for line in lines if "curl" in line).replace("http://127.0.0.1:8000", url)
    answer = json.loads(subprocess.run(shlex.split(curl), capture_output=True, check=True, timeout=30).stdout)
    assert answer["outputs"][0]["shape"] == [1, 3, 8, 10]


PROGRAM = """
import samovar

@samovar.service
class Photos:
    net = samovar.use(
        "pixels.onnx", batch_axis=True, preprocess={"resize": 12, "crop": [8, 10], "mean": 0.5, "std": 0.25}
    )

    @samovar.api
    async def means(self, photo: bytes) -> float:
        return float((await self.net.predict([photo])).mean())
"""


def test_a_service_says_how_the_network_that_it_uses_takes_images(serve: Serve, tmp_path: Path) -> None:
    models.echo(tmp_path / "pixels.onnx", shape=(None, 3, 8, 10))
    program = tmp_path / "photos.py"
    program.write_text(PROGRAM)
    served = serve(str(program))
    assert served.http.get("/v2/models/pixels").json()["inputs"][0]["datatype"] == "BYTES"
    answer = served.http.post("/photos/means", {"photo": base64.b64encode(FILES[3]).decode()})
    assert answer.status == 200, answer.body
    assert abs(answer.json() - WANTED[3].mean()) < 1e-4
