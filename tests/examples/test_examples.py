"""examples/streaming, upload and mounted-app: what their pages say, and what a client of HTTP or WebSockets sees."""

import asyncio
import io
import json
from pathlib import Path

import httpx
import pytest
import websockets
from PIL import Image

from guides import ROOT, Reader, needs_curl
from serving import Serve

EXAMPLES = ROOT / "examples"


def test_the_first_model_has_at_most_15_lines() -> None:
    assert len((EXAMPLES / "hello" / "model.py").read_text().splitlines()) <= 15


@needs_curl
@pytest.mark.parametrize("name", ["hello", "streaming", "upload"])
def test_what_the_page_of_an_example_says_happens(name: str, reader: Reader) -> None:
    reader.read(EXAMPLES / name / "README.md")


def test_streaming_sends_each_word_as_it_comes(serve: Serve) -> None:
    served = serve(str(EXAMPLES / "streaming" / "story.py"))
    with httpx.stream("POST", f"http://127.0.0.1:{served.port}/story/tell", json={"words": 1000}) as answer:
        words = answer.iter_lines()
        first = [json.loads(next(words)) for _ in range(3)]
    assert [word["number"] for word in first] == [1, 2, 3]
    assert first[0]["text"] == "the"
    refused = served.http.post("/story/tell", {"words": 0})
    assert (refused.status, refused.code()) == (422, "invalid_input")


def test_upload_takes_an_image_with_fields_and_gives_one(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(EXAMPLES / "upload" / "thumbnails.py"))
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (640, 480), "teal").save(photo)
    url = f"http://127.0.0.1:{served.port}/thumbnails"
    with photo.open("rb") as file:
        fields = {"width": "96", "border": "white"}
        answer = httpx.post(f"{url}/make", files={"photo": file}, data=fields, headers={"accept": "image/jpeg"})
    small = Image.open(io.BytesIO(answer.content))
    assert (small.format, small.size) == ("JPEG", (96 + 8, 72 + 8))
    big = bytes(20 << 20)
    uploads = httpx.post(f"{url}/inspect", files=[("files", ("big.bin", big)), ("files", ("a.txt", b"a"))]).json()
    assert [(upload["name"], upload["size"]) for upload in uploads] == [("big.bin", len(big)), ("a.txt", 1)]


def test_mounted_app_shows_its_page_and_speaks_over_its_websocket(serve: Serve) -> None:
    served = serve(str(EXAMPLES / "mounted-app" / "mood.py"))
    page = served.http.get("/ui/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<title>Mood</title>" in page.body

    async def talk() -> list[float]:
        async with websockets.connect(f"ws://127.0.0.1:{served.port}/ui/live") as socket:
            moods = []
            for text in ("warm tea", "warm tea late rain", "rain"):
                await socket.send(text)
                moods.append(json.loads(await socket.recv())["mood"])
            return moods

    assert asyncio.run(talk()) == [2.0, 0.0, -1.0]
