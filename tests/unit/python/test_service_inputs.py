"""One method takes JSON, both forms, a raw body, a query and a path, and reads each as its annotations say."""

import base64
import dataclasses
import io
from collections.abc import Callable
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pytest
from jaxtyping import BFloat16, Bool, Float16, Float32, Float64, Int64, UInt8
from PIL import Image
from pydantic import BaseModel, Field

import samovar
from unit.python.service_client import ServiceClient, opened, picture


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    name: str = Field(min_length=1)
    price: float = 1.0


@dataclasses.dataclass
class Box:
    left: int
    top: int = 0


class Pair(NamedTuple):
    first: int
    second: str = "b"


@dataclasses.dataclass
class Scene:
    image: samovar.Image
    boxes: Int64[np.ndarray, "n 4"]
    note: bytes = b""


BOX, PAIR = Box(0), Pair(1)


@samovar.service
class Echo:
    """Says what came in."""

    @samovar.api
    def scalars(self, text: str, whole: int, number: float = 0.5, truth: bool = False) -> dict[str, Any]:
        return {"text": text, "whole": whole, "number": number, "truth": truth}

    @samovar.api
    def plain(
        self,
        when: date,
        color: Color = Color.RED,
        kind: Literal["a", "b"] = "a",
        limit: Annotated[int, Field(ge=1, le=5)] = 2,
        maybe: int | None = None,
        either: int | str = 0,
    ) -> list[str]:
        return [repr(value) for value in (when, color, kind, limit, maybe, either)]

    @samovar.api
    def records(self, item: Item, box: Box = BOX, pair: Pair = PAIR, items: list[Item] | None = None) -> list[str]:
        return [repr(value) for value in (item, box, pair, items)]

    @samovar.api
    def lists(self, numbers: list[int], words: list[str] = [], nested: list[list[int]] = []) -> list[Any]:  # noqa: B006
        return [numbers, words, nested]

    @samovar.api
    def table(self, rows: dict[str, list[float]]) -> int:
        return len(rows)

    @samovar.api
    def arrays(self, x: Float32[np.ndarray, "batch 3"], y: Float32[np.ndarray, "batch 3"]) -> list[Any]:
        return [str(x.dtype), list(x.shape), float(x.sum() + y.sum())]

    @samovar.api
    def words(self, words: samovar.Bytes[np.ndarray, "n 1"]) -> list[Any]:
        return [str(words.dtype), list(words.shape), [word.decode() for word in words.ravel()]]

    @samovar.api
    def truths(self, x: Bool[np.ndarray, "n"]) -> int:
        return int(x.sum())

    @samovar.api
    def one(self, x: Float64[np.ndarray, ""]) -> float:
        return float(x)

    @samovar.api
    def short(self, x: Float16[np.ndarray, "n"], y: BFloat16[np.ndarray, "n"]) -> list[str]:
        return [str(x.dtype), str(y.dtype)]

    @samovar.api
    def pixels(self, image: UInt8[np.ndarray, "h w 3"]) -> list[int]:
        return [*image.shape, *image[0, 0].tolist()]

    @samovar.api
    def image(self, image: samovar.Image, scale: int = 1) -> list[Any]:
        return [image.mode, image.width * scale, image.height * scale]

    @samovar.api
    def maybe_image(self, image: samovar.Image | None = None) -> bool:
        return image is not None

    @samovar.api
    def images(self, images: list[samovar.Image]) -> list[int]:
        return [image.width for image in images]

    @samovar.api
    def scene(self, scene: Scene) -> list[Any]:
        return [scene.image.size, scene.boxes.tolist(), scene.note.decode()]

    @samovar.api
    def data(self, data: bytes) -> str:
        return data.hex()

    @samovar.api
    async def file(self, file: samovar.File, n: int = 0) -> list[Any]:
        assert isinstance(file, samovar.File)
        return [file.filename, (await file.read()).hex()]

    @samovar.api
    async def only_file(self, file: samovar.File) -> str:
        return (await file.read()).hex()

    @samovar.api
    async def files(self, files: list[samovar.File]) -> list[str]:
        return [(await file.read()).decode() for file in files]

    @samovar.api
    def text(self, text: str) -> str:
        return text

    @samovar.api
    def array(self, x: Float32[np.ndarray, "n 2"]) -> float:
        return float(x.sum())

    @samovar.api
    def nothing(self) -> str:
        return "ok"

    @samovar.api
    def optional(self, n: int = 3) -> int:
        return n

    @samovar.api(method="GET", path="/echo/items/{key}/{word}")
    def find(
        self,
        key: int,
        word: str,
        limit: list[int] = [7],  # noqa: B006
        deep: bool = False,
        note: str | None = None,
    ) -> list[Any]:
        return [key, word, limit, deep, note]

    @samovar.api(method="DELETE", path="/echo/items/{key}")
    def drop(self, key: int, force: bool = False) -> list[Any]:
        return [key, force]

    @samovar.api(method="PUT", path="/echo/items/{key}")
    def store(self, key: int, text: str) -> list[Any]:
        return [key, text]

    @samovar.api
    def odd_names(self, copy: int, _x: int, model_config: int, *, json: int) -> list[int]:
        return [copy, _x, model_config, json]

    @samovar.api
    def context(self, n: int, context: samovar.Context) -> list[Any]:
        return [n, context.id, context.deadline, context.headers["x-note"], context.trace]


@pytest.fixture(scope="module")
def echo() -> ServiceClient:
    return ServiceClient(Echo)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def raw(body: bytes, media: str) -> dict[str, Any]:
    return {"content": body, "headers": {"content-type": media}}


JSON_CASES = [
    ("scalars", {"text": "5", "whole": 2}, {"text": "5", "whole": 2, "number": 0.5, "truth": False}),
    (
        "scalars",
        {"text": "", "whole": 2, "number": 3, "truth": True},
        {"text": "", "whole": 2, "number": 3.0, "truth": True},
    ),
    ("scalars", {"text": "a", "whole": 2.0}, {"text": "a", "whole": 2, "number": 0.5, "truth": False}),
    ("plain", {"when": "2026-01-02"}, ["datetime.date(2026, 1, 2)", "<Color.RED: 'red'>", "'a'", "2", "None", "0"]),
    (
        "plain",
        {"when": "2026-01-02", "color": "blue", "kind": "b", "limit": 5, "maybe": 1, "either": "x"},
        ["datetime.date(2026, 1, 2)", "<Color.BLUE: 'blue'>", "'b'", "5", "1", "'x'"],
    ),
    (
        "records",
        {"item": {"name": "a"}, "box": {"left": 1}, "pair": {"first": 2}, "items": [{"name": "b", "price": 2}]},
        [
            "Item(name='a', price=1.0)",
            "Box(left=1, top=0)",
            "Pair(first=2, second='b')",
            "[Item(name='b', price=2.0)]",
        ],
    ),
    ("lists", {"numbers": [1, 2], "words": ["a"], "nested": [[1], [2, 3]]}, [[1, 2], ["a"], [[1], [2, 3]]]),
    ("table", {"rows": {"a": [1.5], "b": []}}, 2),
    ("arrays", {"x": [[1, 2, 3]], "y": [[0.5, 0, 0]]}, ["float32", [1, 3], 6.5]),
    ("arrays", {"x": [], "y": []}, ["float32", [0, 3], 0.0]),
    ("words", {"words": [["a"], ["ü"]]}, ["object", [2, 1], ["a", "ü"]]),
    ("truths", {"x": [True, False, True]}, 2),
    ("one", {"x": 2.5}, 2.5),
    ("short", {"x": [1.5], "y": [2]}, ["float16", "bfloat16"]),
    ("pixels", {"image": [[[1, 2, 3]]]}, [1, 1, 3, 1, 2, 3]),
    ("image", {"image": base64_of(picture())}, ["RGB", 4, 3]),
    ("image", {"image": "data:image/png;base64," + base64_of(picture()), "scale": 2}, ["RGB", 8, 6]),
    ("maybe_image", {}, False),
    ("maybe_image", {"image": None}, False),
    ("images", {"images": [base64_of(picture((2, 1))), base64_of(picture((5, 1)))]}, [2, 5]),
    (
        "scene",
        {"scene": {"image": base64_of(picture()), "boxes": [[1, 2, 3, 4]], "note": base64_of(b"hi")}},
        [[4, 3], [[1, 2, 3, 4]], "hi"],
    ),
    ("data", {"data": base64_of(b"\x00\xff")}, "00ff"),
    ("file", {"file": base64_of(b"\x01")}, ["", "01"]),
    ("nothing", {}, "ok"),
    ("odd_names", {"copy": 1, "_x": 2, "model_config": 3, "json": 4}, [1, 2, 3, 4]),
]


@pytest.mark.parametrize(("name", "sent", "expected"), JSON_CASES)
def test_a_json_object_has_the_inputs_by_name(echo: ServiceClient, name: str, sent: Any, expected: Any) -> None:
    response = echo.post(f"/echo/{name}", json=sent)
    assert (response.status_code, response.json()) == (200, expected)


@pytest.mark.parametrize(
    ("name", "sent", "expected"),
    [
        (
            "scalars",
            {"text": "5", "whole": "2", "truth": "on"},
            {"text": "5", "whole": 2, "number": 0.5, "truth": True},
        ),
        ("plain", {"when": "2026-01-02", "maybe": "", "either": "7"}, None),
        ("lists", {"numbers": ["1", "2"], "words": ["[x", "y"], "nested": "[[1]]"}, [[1, 2], ["[x", "y"], [[1]]]),
        ("lists", {"numbers": "[1, 2]", "nested": ["[1]", "[2, 3]"]}, [[1, 2], [], [[1], [2, 3]]]),
        ("lists", {"numbers": "1", "nested": "[1]"}, [[1], [], [[1]]]),
        ("table", {"rows": '{"a": [1]}'}, 1),
        ("records", {"item": '{"name": "a"}'}, None),
        ("arrays", {"x": "[[1,2,3]]", "y": "[[1,2,3]]"}, ["float32", [1, 3], 12.0]),
        ("data", {"data": "hello"}, b"hello".hex()),
    ],
)
def test_a_form_has_the_inputs_as_texts(echo: ServiceClient, name: str, sent: dict[str, Any], expected: Any) -> None:
    urlencoded = echo.post(f"/echo/{name}", data=sent)
    pairs = [(key, value) for key, found in sent.items() for value in (found if isinstance(found, list) else [found])]
    multipart = echo.post(f"/echo/{name}", files=[(key, (None, value)) for key, value in pairs])
    assert (urlencoded.status_code, multipart.status_code) == (200, 200), urlencoded.text + multipart.text
    assert urlencoded.json() == multipart.json()
    assert expected is None or urlencoded.json() == expected


def test_a_multipart_form_has_files(echo: ServiceClient) -> None:
    def ask(name: str, files: Any) -> Any:
        response = echo.post(f"/echo/{name}", files=files)
        assert response.status_code == 200, response.text
        return response.json()

    assert ask("image", {"image": ("a.png", picture()), "scale": (None, "2")}) == ["RGB", 8, 6]
    assert ask("image", {"image": (None, picture())}) == ["RGB", 4, 3]  # a part without a file name
    assert ask("images", [("images", picture((2, 1))), ("images", picture((5, 1)))]) == [2, 5]
    assert ask("file", {"file": ("ü.bin", b"\x00\xff", "text/csv")}) == ["ü.bin", "00ff"]
    assert ask("file", {"file": (None, b"\x00\xff")}) == ["", "00ff"]
    assert ask("files", [("files", b"a"), ("files", b"b")]) == ["a", "b"]
    assert ask("data", {"data": b"\x00\xff"}) == "00ff"
    assert ask("array", {"x": npy(np.ones((2, 2), np.float32))}) == 4.0
    assert ask("pixels", {"image": picture()}) == [3, 4, 3, 255, 0, 0]


@pytest.mark.parametrize(
    ("name", "body", "media", "expected"),
    [
        ("maybe_image", picture(), "image/png", True),
        ("pixels", picture((2, 1), "bmp"), "image/bmp", [1, 2, 3, 255, 0, 0]),
        ("data", b"\x00\xff", "application/octet-stream", "00ff"),
        ("only_file", b"\x00\xff", "application/octet-stream", "00ff"),
        ("text", "grün".encode(), "text/plain; charset=utf-8", "grün"),
        ("array", npy(np.ones((2, 2), np.float32)), "application/x-npy", 4.0),
        ("array", npy(np.ones((2, 2), ">f4")), "application/x-npy", 4.0),
        ("text", b'{"text": "a"}', "application/vnd.api+json", "a"),
    ],
)
def test_one_input_may_be_the_whole_body(
    echo: ServiceClient, name: str, body: bytes, media: str, expected: Any
) -> None:
    response = echo.post(f"/echo/{name}", **raw(body, media))
    assert (response.status_code, response.json()) == (200, expected)


def test_without_inputs_no_body_is_needed(echo: ServiceClient) -> None:
    assert echo.post("/echo/nothing").json() == "ok"
    assert echo.post("/echo/optional").json() == 3
    assert echo.post("/echo/scalars").status_code == 422


def test_path_and_query(echo: ServiceClient) -> None:
    assert echo.get("/echo/items/5/a%20b").json() == [5, "a b", [7], False, None]
    found = echo.get("/echo/items/5/x", params={"limit": [1, 2], "deep": "true", "note": "null"})
    assert found.json() == [5, "x", [1, 2], True, "null"]
    assert echo.request("DELETE", "/echo/items/5?force=TRUE").json() == [5, True]
    assert echo.request("PUT", "/echo/items/5", json={"text": "a"}).json() == [5, "a"]
    assert echo.request("HEAD", "/echo/items/5/x").status_code == 200


def test_the_context_is_no_input_of_clients(echo: ServiceClient) -> None:
    found = echo.post("/echo/context", json={"n": 1}, headers={"X-Note": "n"})
    assert found.json() == [1, "r-7", 12.5, "n", "00-trace"]
    assert echo.post("/echo/context", json={"n": 1, "context": {}}).status_code == 422


def test_images_are_upright_and_rgb() -> None:
    seen: list[Image.Image] = []

    @samovar.service
    class S:
        @samovar.api
        def look(self, image: samovar.Image) -> None:
            seen.append(image)

    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    client = ServiceClient(S)
    assert client.post("/s/look", **raw(picture((4, 2), "jpeg", exif=exif), "image/jpeg")).status_code == 200
    assert client.post("/s/look", **raw(picture((4, 2), "png", "LA"), "image/png")).status_code == 200
    assert [(image.mode, image.size) for image in seen] == [("RGB", (2, 4)), ("RGB", (4, 2))]


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("scalars", {"json": {"text": "a", "whole": "2"}}, 422, 'body: field "whole": got "2"; input should be a valid'),
    ("scalars", {"json": {"text": 1, "whole": 2}}, 422, 'body: field "text": got 1; input should be a valid string'),
    ("scalars", {"json": {"text": "a", "whole": True}}, 422, 'body: field "whole": got true; input should be a valid'),
    ("scalars", {"json": {"text": "a", "whole": 2.5}}, 422, 'body: field "whole": got 2.5; input should be a valid'),
    ("scalars", {"json": {"text": "a"}}, 422, 'body: field "whole" is missing; send it'),
    (
        "scalars",
        {"json": {"text": "a", "whole": 1, "more": 2}},
        422,
        'body: field "more" is unknown; leave it out',
    ),
    ("scalars", {"json": [1]}, 422, "body: got [1]; input should be an object"),
    ("scalars", {"json": {}}, 422, 'body: field "text" is missing; send it (and 1 more: see detail)'),
    ("scalars", raw(b'{"text": NaN', "application/json"), 400, "the body is no JSON: "),
    ("scalars", raw(b'{"text": "a", "whole": 1, "number": NaN}', "application/json"), 422, 'body: field "number": got'),
    ("scalars", raw(b"", "application/json"), 400, "the body is no JSON: EOF"),
    ("scalars", {"data": {"text": "a", "whole": "x"}}, 422, 'body: field "whole": got "x"; input should be an'),
    ("scalars", {"data": {"text": "a", "whole": "1_0"}}, 422, 'body: field "whole": got "1_0"; input should be an int'),
    ("scalars", {"data": {"text": "a", "whole": ["1", "2"]}}, 422, 'body: field "whole": got "1"; input should be'),
    ("scalars", {"data": {"text": "a", "whole": "1", "truth": "1"}}, 422, 'body: field "truth": got "1"; input should'),
    ("plain", {"json": {"when": "soon"}}, 422, 'body: field "when": got "soon"; input should be a valid date'),
    ("plain", {"json": {"when": "2026-01-02", "limit": 6}}, 422, 'body: field "limit": got 6; input should be less'),
    ("records", {"json": {"item": {"name": ""}}}, 422, 'body: field "item.name": got ""; string should have at'),
    (
        "records",
        {"json": {"item": {"name": "a"}, "pair": {"third": 1}}},
        422,
        'body: field "pair.first" is missing; send it (and 1 more: see detail)',
    ),
    ("arrays", {"json": {"x": [[1, 2]], "y": [[1, 2, 3]]}}, 422, 'body: field "x.0": got [1,2]; list should have at'),
    ("arrays", {"json": {"x": [[1, 2, True]], "y": []}}, 422, 'body: field "x.0.2": got true; input should be a valid'),
    ("arrays", {"json": {"x": [[1, 2, 1e39]], "y": []}}, 422, 'body: field "x.0.2": got 1e+39; input should be less'),
    (
        "arrays",
        {"json": {"x": [[1, 2, 3]], "y": [[1, 2, 3], [1, 2, 3]]}},
        422,
        'body: field "y": got [[1,2,3],[1,2,3]]; axis "batch" has 2 elements here, 1 before',
    ),
    ("lists", {"json": {"numbers": ["a"]}}, 422, 'body: field "numbers.0": got "a"; input should be a valid integer'),
    ("pixels", {"json": {"image": [[[1, 2, 256]]]}}, 422, 'body: field "image.0.0.2": got 256; input should be less'),
    ("pixels", {"json": {"image": [[[1, 2, 3]], []]}}, 422, 'body: field "image": got [[[1,2,3]],[]]; its lists are'),
    ("words", {"json": {"words": [[1]]}}, 422, 'body: field "words.0.0": got 1; input should be a valid string'),
    ("data", {"json": {"data": "?"}}, 422, 'body: field "data": got "?"; it is no base64: '),
    ("image", {"json": {"image": "AAAA"}}, 422, 'body: field "image": got "AAAA"; no image can be read: its format is'),
    ("image", {"files": {"image": b"GIF"}}, 422, 'body: field "image": got 3 bytes; no image can be read: its'),
    ("image", {"files": {"image": picture()[:45]}}, 422, 'body: field "image": got 45 bytes; '),
    ("image", {"data": {"scale": "1"}}, 422, 'body: field "image" is missing; send it'),
    ("array", raw(b"no", "application/x-npy"), 422, 'body: field "x": got 2 bytes; it is no file of numpy (.npy)'),
    ("array", raw(npy(np.ones((2, 2))), "application/x-npy"), 422, 'body: field "x": got 160 bytes; '),
    ("text", raw(b"\xff", "text/plain"), 400, "the text in the body is no UTF-8: invalid start byte"),
    ("text", raw(b"a", "text/html"), 415, "content type 'text/html' is not taken here; send one of application/json, "),
    ("text", {"content": b"a"}, 415, "a body without a content type is not taken here; send one of application/json"),
    ("text", raw(b"a", "multipart/form-data"), 400, "the form cannot be read: Missing boundary in multipart."),
    ("text", raw(b"a", "multipart/form-data; boundary=b"), 400, "the form cannot be read: "),
    ("text", {"files": {"text": (None, b"\xff")}}, 400, "the text in the body is no UTF-8: invalid start byte"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sent", "status", "message"), REFUSED)
def test_what_does_not_fit_is_refused_by_its_name(
    echo: ServiceClient, name: str, sent: dict[str, Any], status: int, message: str
) -> None:
    response = echo.post(f"/echo/{name}", **sent)
    body = response.json()
    assert (response.status_code, body["error"][: len(message)]) == (status, message)
    assert body["id"] == "r-7"
    assert body["code"] == {422: "invalid_input", 415: "unsupported_media_type", 400: "invalid_request"}[status]
    assert ("detail" in body) == (status == 422)


def test_details_are_those_of_fastapi(echo: ServiceClient) -> None:
    body = echo.post("/echo/scalars", json={"text": 1, "whole": 2}).json()
    assert body["detail"] == [
        {"type": "string_type", "loc": ["body", "text"], "msg": "Input should be a valid string", "input": 1}
    ]
    body = echo.get("/echo/items/a/x").json()
    assert body["detail"] == [
        {"type": "text", "loc": ["path", "key"], "msg": "Input should be an integer", "input": "a"}
    ]
    body = echo.get("/echo/items/1/x?deeep=true").json()
    assert body["error"] == 'query: field "deeep" is unknown; leave it out'


def test_at_most_256_bytes_of_what_was_sent_are_quoted(echo: ServiceClient) -> None:
    body = echo.post("/echo/scalars", json={"text": "ü" * 1000, "whole": "z" * 1000}).json()
    assert body["error"].count("z") <= 256
    assert len(body["detail"][0]["input"]) <= 257


def test_an_image_of_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    @samovar.service
    class S:
        @samovar.api
        def look(self, image: samovar.Image) -> None: ...

    def never(*_: Any) -> None:
        raise AssertionError("decoded")

    bomb = picture((8000, 6251), "png", "1")
    larger = picture((20_000, 9_500), "png", "1")
    monkeypatch.setattr(Image.Image, "load", never)
    client = ServiceClient(S)
    body = client.post("/s/look", **raw(bomb, "image/png")).json()
    assert body["detail"][0]["msg"] == "the image is 8000 x 6251, more than 50 megapixels; send a smaller one"
    body = client.post("/s/look", **raw(larger, "image/png")).json()
    assert body["detail"][0]["msg"] == "the image has far more than 50 megapixels; send a smaller one"


def test_postscript_is_never_run(echo: ServiceClient) -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    response = echo.post("/echo/pixels", **raw(script, "image/eps"))
    assert "its format is unknown" in response.json()["error"]


def test_a_file_is_closed_when_the_method_has_ended() -> None:
    kept: list[Any] = []

    @samovar.service
    class S:
        @samovar.api
        async def keep(self, file: samovar.File) -> None:
            kept.append(file)

    client = ServiceClient(S)
    client.post("/s/keep", files={"file": b"a"})
    client.post("/s/keep", **raw(b"a", "application/octet-stream"))
    assert [file.file.closed for file in kept] == [True, True]


def test_plain_calls_need_no_engine() -> None:
    call: Callable[..., list[Any]] = Echo().image
    assert call(opened(picture())) == ["RGB", 4, 3]
