"""examples/plates: every plate of a street is read, by the service, by its models alone, and whatever dies under it."""

import asyncio
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import samovar
from clients import Clients
from guides import ROOT, Reader, blocks, needs_curl
from samovar.client import Client
from serving import Serve, Served
from watching import metric

PLATES = ROOT / "examples" / "plates"
KILLED = ("detector", "stn", "lprnet", "plates")


@pytest.fixture(scope="module")
def beside() -> Iterator[None]:
    """The files of the example can be imported by one another, as they are when it is served."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLATES)
        yield


@pytest.fixture(scope="module")
def street(beside: None) -> Any:
    """A street with cars, and the texts of their plates."""
    import scenes

    return scenes.street(np.random.default_rng(scenes.SEED), scenes.CARS)


@pytest.fixture(scope="module")
def found(street: Any) -> Any:
    """What the detector finds there, as a plain object."""
    import plates

    detector = plates.Detector()
    detector.load()
    return detector.predict(street.image)


@pytest.fixture(scope="module")
def photo(street: Any) -> bytes:
    return encoded(street.image)


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve(str(PLATES / "pipeline.py"), str(PLATES / "plates.py"))


def encoded(image: np.ndarray) -> bytes:
    """Without loss, so that every way into the pipeline sees the same pixels."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def recognize(served: Served, photo: bytes, client: Any = httpx) -> httpx.Response:
    url = f"http://127.0.0.1:{served.port}/plates/recognize"
    answer: httpx.Response = client.post(url, files={"image": photo}, timeout=30)
    return answer


def texts(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {plate["text"] for plate in answer.json()}


def test_the_example_is_small() -> None:
    assert len((PLATES / "plates.py").read_text().splitlines()) <= 80
    assert sum((PLATES / f"{net}.onnx").stat().st_size for net in ("stn", "lprnet")) <= 5_000_000


def test_service_model_and_plain_calls_give_equal_answers(
    street: Any, found: Any, photo: bytes, served: Served
) -> None:
    import plates

    answer = recognize(served, photo).json()
    assert {plate["text"] for plate in answer} == {plate.text for plate in street.plates}
    assert all(plate["confidence"] > 0.5 for plate in answer)

    plain = asyncio.run(plates.Plates().recognize(Image.fromarray(street.image)))
    by_hand = read_by_hand(found)
    for told in (plain, by_hand):
        assert [(plate.text, plate.box._asdict()) for plate in told] == [(p["text"], p["box"]) for p in answer]
        confidences = [plate.confidence for plate in told]
        np.testing.assert_allclose(confidences, [plate["confidence"] for plate in answer], rtol=1e-4)

    for door in (served.http, served.grpc):
        outputs = door.infer_binary("plates_pipeline", {"image": street.image}).arrays()
        assert [text.decode() for text in outputs["texts"]] == [plate["text"] for plate in answer]
        assert outputs["boxes"].tolist() == [list(plate["box"].values()) for plate in answer]
        np.testing.assert_allclose(outputs["confidences"], [plate["confidence"] for plate in answer], rtol=1e-4)


def read_by_hand(found: Any) -> Any:
    """Plain calls: no engine, no handles."""
    import plates

    with samovar.load(PLATES / "stn.onnx") as stn, samovar.load(PLATES / "lprnet.onnx") as lprnet:
        return plates.read(lprnet.predict(stn.predict(found.crops)), found.boxes)


def test_each_model_answers_alone_over_both_doors(street: Any, served: Served) -> None:
    for door in (served.http, served.grpc):
        found = door.infer_binary("detector", {"image": street.image}).arrays()
        assert len(found["boxes"]) >= len(street.plates)
        straight = door.infer_binary("stn", {"plates": found["crops"]}).arrays()["straight"]
        assert straight.shape == found["crops"].shape
        logits = door.infer_binary("lprnet", {"plates": straight}).arrays()["logits"]
        assert logits.shape == (len(straight), 23, 18)
    index = served.http.get("/v2/models/lprnet/config").json()
    assert index["max_batch_size"] == 64


def test_a_plate_is_read_the_same_alone_and_in_any_batch(found: Any) -> None:
    crops = found.crops
    noise = np.random.default_rng(0).uniform(-1, 1, crops.shape).astype(np.float32)
    with samovar.load(PLATES / "stn.onnx") as stn, samovar.load(PLATES / "lprnet.onnx") as lprnet:
        alone = np.concatenate([lprnet.predict(stn.predict(crop[None])) for crop in crops])
        together = lprnet.predict(stn.predict(np.concatenate([noise, crops, noise])))[len(noise) :][: len(crops)]
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_a_street_without_cars_is_answered_by_the_detector_alone(served: Served, beside: None) -> None:
    import scenes

    empty = scenes.street(np.random.default_rng(scenes.SEED), 0)
    assert recognize(served, encoded(empty.image)).json() == []
    assert metric(served, "samovar_batches_total", model="detector") == 1
    assert metric(served, "samovar_batches_total", model="stn") == 0
    assert metric(served, "samovar_batches_total", model="lprnet") == 0


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4000, 1), (1, 4000), (60, 20)])
def test_photos_of_any_shape_are_answered(served: Served, width: int, height: int) -> None:
    assert recognize(served, encoded(np.full((height, width, 3), 200, np.uint8))).json() == []


def test_what_is_no_photo_is_refused(served: Served) -> None:
    answer = recognize(served, b"no photo")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert 'field "image"' in answer.json()["error"]
    empty = served.http.infer_binary("detector", {"image": np.zeros((0, 5, 3), np.uint8)})
    assert (empty.status, empty.code()) == (400, "invalid_input")


def worker_of(served: Served, model: str) -> int:
    """The process of a model's one instance."""
    with Client(f"unix:{served.ready['admin']}") as owner:
        models = owner.state()["models"]
    (instance,) = next(found for found in models if found["name"] == model)["instances"]
    return int(instance["pid"])


@pytest.mark.timeout(180)
def test_deaths_of_each_model_under_load_fail_no_request(street: Any, photo: bytes, served: Served) -> None:
    with httpx.Client() as connections:
        clients = Clients(lambda _: recognize(served, photo, connections), 4)
        for model in KILLED:
            clients.more(4, timeout_s=40)
            os.kill(worker_of(served, model), signal.SIGKILL)
        clients.more(8, timeout_s=40)
        clients.end()
    answers = clients.answers.values()
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    wanted = {plate.text for plate in street.plates}
    assert all(texts(answer) == wanted for answer in answers)
    assert all(metric(served, "samovar_worker_restarts_total", model=model) == 1 for model in KILLED)


def test_nearly_all_plates_of_streets_that_were_not_trained_on_are_read(beside: None) -> None:
    import judge

    verdict = judge.judge(range(judge.HELD_OUT, judge.HELD_OUT + 12))
    assert verdict.right >= 0.95 * verdict.found, str(verdict)
    assert verdict.found >= 0.8 * verdict.drawn, str(verdict)


@needs_curl
@pytest.mark.parametrize("page", [PLATES / "README.md"])
def test_what_the_page_of_the_example_says_happens(page: Path, reader: Reader) -> None:
    reader.read(page)


@needs_curl
@pytest.mark.timeout(180)
def test_the_tutorial_goes_from_an_empty_file_to_the_example(reader: Reader, tmp_path: Path) -> None:
    reader.read(ROOT / "docs" / "tutorial.md")
    for name in ("plates.py", "pipeline.py"):
        assert (tmp_path / "reader" / name).read_text() == (PLATES / name).read_text()


def test_the_readme_shows_the_whole_example() -> None:
    shown = next(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    assert shown == (PLATES / "plates.py").read_text()
