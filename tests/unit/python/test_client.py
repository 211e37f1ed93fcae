"""The client against a stand-in for the engine, which echoes inputs and knows a few ways to fail."""

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from samovar.client import Client
from samovar.errors import InputError, RequestError, ServerError, UnreachableError

LENGTH = "Inference-Header-Content-Length"


class Engine(BaseHTTPRequestHandler):
    """Model `echo` answers with its inputs; others fail, each in its way."""

    def do_GET(self) -> None:
        self.answer(503 if "health" in self.path else 200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path.split("/")[3]:
            case "echo":
                length = int(self.headers[LENGTH])
                head = json.dumps({"outputs": json.loads(body[:length])["inputs"]}).encode()
                self.answer(200, head + body[length:], {LENGTH: str(len(head))})
            case "cut":
                self.answer(200, b'{"outputs": [', {LENGTH: "13"})
            case "page":
                self.answer(404, b"<html>")
            case "gone":
                self.close_connection = True
            case _:
                self.answer(404, b'{"error": "no such model", "code": "unknown_model"}')

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def client() -> Iterator[Client]:
    with HTTPServer(("127.0.0.1", 0), Engine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            yield client
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "value",
    [
        np.array([[1.5, np.nan]], "f4"),
        np.array([1, 2**63], "u8"),
        np.zeros((0, 3), "i2"),
        np.array([True, False]),
        np.array([b"a", b"\xff\x00"], object),
        np.array([1.5], "f2"),
        np.array([[1.5, -2]], ml_dtypes.bfloat16),
        np.array(7, "i4"),
        np.arange(6, dtype="i8").reshape(2, 3).T,
    ],
)
def test_arrays_travel_there_and_back(client: Client, value: Any) -> None:
    back = client.infer("echo", {"x": value, "y": value})["y"]
    assert (back.dtype, back.shape) == (value.dtype, value.shape)
    assert back.tobytes() == value.tobytes() if value.dtype != object else back.tolist() == value.tolist()


def test_texts_are_bytes_and_foreign_byte_orders_are_turned(client: Client) -> None:
    assert client.infer("echo", {"x": np.array(["é", "b"])})["x"].tolist() == ["é".encode(), b"b"]
    back = client.infer("echo", {"x": np.array([1, 2], ">i4")})["x"]
    assert (back.dtype, back.tolist()) == (np.dtype("i4"), [1, 2])


@pytest.mark.parametrize("value", [np.zeros(1, "c8"), np.array([1, "a"], object), np.zeros(1, "M8[s]")])
def test_what_no_datatype_holds_is_refused_here(client: Client, value: Any) -> None:
    with pytest.raises(InputError, match='input "x" has'):
        client.infer("echo", {"x": value})


def test_a_refusal_has_its_status_and_code(client: Client) -> None:
    with pytest.raises(RequestError, match=r"^no such model$") as caught:
        client.infer("other", {"x": np.zeros(1, "f4")})
    assert (caught.value.status, caught.value.code) == (404, "unknown_model")
    client.check_ready("echo")
    with pytest.raises(RequestError, match="is not ready") as caught:
        client.check_ready()
    assert (caught.value.status, caught.value.code) == (503, "not_ready")


@pytest.mark.parametrize(
    ("model", "words"), [("cut", "no binary inference answer"), ("page", "is no Samovar engine"), ("gone", "broke")]
)
def test_an_answer_that_no_engine_gives_is_told(client: Client, model: str, words: str) -> None:
    with pytest.raises(ServerError, match=words):
        client.infer(model, {"x": np.zeros(1, "f4")})


def test_a_unix_socket_is_spoken_to(tmp_path: Path) -> None:
    class UnixServer(socketserver.UnixStreamServer):
        def get_request(self) -> tuple[Any, Any]:
            return super().get_request()[0], ("local", 0)

    path = str(tmp_path / "s")
    with UnixServer(path, Engine) as served:
        thread = threading.Thread(target=served.handle_request)
        thread.start()
        with Client(f"unix:{path}") as client:
            assert client.infer("echo", {"x": np.ones((1, 2), "f4")})["x"].tolist() == [[1, 1]]
        thread.join()


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")  # httpcore leaves closing it to the collector
def test_where_nobody_listens_the_error_says_so(tmp_path: Path) -> None:
    for url in (f"unix:{tmp_path}/no.sock", "http://127.0.0.1:1"):
        with Client(url) as client, pytest.raises(UnreachableError, match=f"^no engine answers at {url}"):
            client.server()


@pytest.mark.parametrize("url", ["8000", "ftp://here", "http://", "http://h:port", ""])
def test_an_address_is_checked(url: str) -> None:
    with pytest.raises(InputError, match="is no address of an engine"):
        Client(url)


def test_a_proxy_is_not_asked_for_this_machine(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Client(client.url) as fresh:
        fresh.check_ready("echo")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 256])
def test_what_is_no_name_is_not_sent(client: Client, name: str) -> None:
    for call in (
        client.metadata,
        client.check_ready,
        client.load,
        client.unload,
        lambda n: client.infer("echo", {}, version=n),
    ):
        with pytest.raises(InputError, match="name"):
            call(name)
