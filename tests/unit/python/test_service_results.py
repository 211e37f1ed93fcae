"""What a method returns: JSON by its annotation, images, bytes, files and responses as themselves."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from jaxtyping import BFloat16, Float16, Float32, Int32
from PIL import Image
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse, Response

import samovar
from unit.python.service_client import ServiceClient, opened


class Plate(BaseModel):
    text: str
    score: float = Field(serialization_alias="confidence")


class Found(NamedTuple):
    labels: samovar.Bytes[np.ndarray, "n"]
    scores: Float32[np.ndarray, "n"]


@dataclasses.dataclass
class Scene:
    image: samovar.Image
    data: bytes


def ml_array(dtype: str) -> Any:
    from samovar.codecs.elements import dtype_of
    from samovar.types import Datatype

    return np.array([1.5, np.nan], dtype_of(Datatype[dtype]))


def answer(annotation: Any, value: Any, **headers: str) -> Any:
    """What a client gets of a method with this annotation that returns this value."""

    def find(self: Any) -> Any:
        return value() if isinstance(value, Callable) and not isinstance(value, type) else value  # type: ignore[arg-type]

    find.__annotations__["return"] = annotation
    cls = samovar.service(type("S", (), {"find": samovar.api(find)}))
    return ServiceClient(cls).post("/s/find", headers={name.replace("_", "-"): text for name, text in headers.items()})


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (str, "ü", "ü"),
        (None, None, None),
        (int, np.int64(3), 3),
        (float, np.float32(0.5), 0.5),
        (float, float("nan"), None),
        (list[float], np.arange(2.0), [0.0, 1.0]),
        (dict[str, Any], {"a": np.float32(2), "b": np.array([[1, 2]])}, {"a": 2.0, "b": [[1, 2]]}),
        (Any, {"a": float("inf")}, {"a": None}),
        (tuple[int, str], (1, "a"), [1, "a"]),
        (list[Plate], [{"text": "a", "score": 1}], [{"text": "a", "confidence": 1.0}]),
        (Plate | None, Plate(text="a", score=float("nan")), {"text": "a", "confidence": None}),
        (Plate | None, None, None),
        (Float32[np.ndarray, "n 2"], np.array([[1, np.nan]], np.float32), [[1.0, None]]),
        (Float32[np.ndarray, ""], np.float32(2), 2.0),
        (Int32[np.ndarray, "n"], [1, 2], [1, 2]),
        (Int32[np.ndarray, "n"], np.array([1], ">i4"), [1]),
        (Float16[np.ndarray, "n"], ml_array("FP16"), [1.5, None]),
        (BFloat16[np.ndarray, "n"], ml_array("BF16"), [1.5, None]),
        (samovar.Bytes[np.ndarray, "n"], np.array([b"a", "ü"], object), ["a", "ü"]),
        (
            Found,
            Found(np.array([b"x"], object), np.array([1], np.float32)),
            {"labels": ["x"], "scores": [1.0]},
        ),
        (list[bytes], [b"\x00\xff"], ["AP8="]),
    ],
)
def test_json(annotation: Any, value: Any, expected: Any) -> None:
    response = answer(annotation, value)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == expected


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/png;q=0.5, image/jpeg;q=0.9", "image/jpeg"),
        ("image/*", "image/png"),
        ("text/html, image/jpeg;q=x", "image/png"),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_an_image_is_a_body_of_the_kind_that_accept_likes(accept: str, media: str, mode: str) -> None:
    response = answer(samovar.Image, Image.new(mode, (4, 3)), accept=accept)
    assert (response.status_code, response.headers["content-type"]) == (200, media)
    image = opened(response.content)
    assert (image.format, image.size) == (media.removeprefix("image/").upper(), (4, 3))


def test_an_image_may_be_missing_or_inside() -> None:
    assert answer(samovar.Image | None, None).json() is None
    found = answer(Scene, Scene(Image.new("RGB", (2, 1)), b"a")).json()
    assert found["data"] == "YQ=="
    assert found["image"].startswith("iVBORw0KGgo")


def test_bytes_files_and_responses_are_themselves(tmp_path: Path) -> None:
    assert answer(bytes, b"\x00\xff").content == b"\x00\xff"
    assert answer(bytes, bytearray(b"a")).headers["content-type"] == "application/octet-stream"
    file = tmp_path / "table.csv"
    file.write_text("a,b\n")
    response = answer(Path, file)
    assert (response.text, response.headers["content-type"]) == ("a,b\n", "text/csv; charset=utf-8")
    response = answer(Response, lambda: PlainTextResponse("made", 201, {"x-note": "n"}))
    assert (response.status_code, response.text, response.headers["x-note"]) == (201, "made", "n")
    assert answer(PlainTextResponse | list[int], [1]).json() == [1]


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "x", "the result is str: input should be a valid integer, unable to parse string as an integer"),
        (list[Plate], [Plate(text="a", score=1), 3], "the result[1] is int: input should be a valid dictionary or"),
        (str, None, "the result is NoneType: input should be a valid string"),
        (None, 3, "the result is int: input should be None"),
        (Float32[np.ndarray, "n"], np.zeros(2), "the result is ndarray: dtype float64, wanted float32"),
        (
            Float32[np.ndarray, "n 2"],
            np.zeros((1, 3), np.float32),
            "the result is ndarray: shape [1,3] does not fit [n,2]: axis 1 must be 2",
        ),
        (Float32[np.ndarray, "n n"], np.zeros((1, 3), np.float32), 'the result is ndarray: axis "n" has 3 elements'),
        (samovar.Bytes[np.ndarray, "n"], np.array([b"\xff"], object), "the result cannot be sent: "),
        (Any, object(), "the result cannot be sent: "),
        (samovar.Image, 3, "the result is int; return what the annotation says"),
        (Path, Path("/nowhere/at/all"), "the result is the path '/nowhere/at/all', where no file is"),
        (Found, 3, "the result is int: input should be a valid dictionary"),
    ],
)
def test_a_result_that_does_not_fit_is_the_programs_fault(annotation: Any, value: Any, message: str) -> None:
    response = answer(annotation, value)
    body = response.json()
    assert (response.status_code, body["code"]) == (500, "bad_model_output")
    assert body["error"].startswith(f"S.find: {message}")
