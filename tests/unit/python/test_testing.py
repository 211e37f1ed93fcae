"""The small client of `samovar.testing`, against a stand-in for the engine that echoes its input."""

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from samovar import testing
from samovar.errors import RequestError
from samovar.server import Server


class Echo(BaseHTTPRequestHandler):
    """Answers model `echo` with its inputs, any other with an error."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.path == "/v2/models/echo/infer"
        body: dict[str, Any] = {"outputs": request["inputs"]}
        answer = json.dumps(body if known else {"error": "no such model", "code": "unknown_model"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


class Address:
    """As much of a Server as the client needs."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"


@pytest.fixture
def server() -> Iterator[Server]:
    with HTTPServer(("127.0.0.1", 0), Echo) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield cast("Server", Address(httpd.server_port))
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "value",
    [
        np.array([[1.5, -2]], "f4"),
        np.array([1, 2**63], "u8"),
        np.zeros((0, 3), "i2"),
        np.array([True, False]),
        np.array([b"a", "é".encode()], object),
    ],
)
def test_arrays_travel_there_and_back(server: Server, value: Any) -> None:
    back = testing.infer(server, "echo", x=value)["x"]
    assert back.dtype == value.dtype
    np.testing.assert_array_equal(back, value)


def test_a_unix_socket_is_spoken_to(tmp_path: Path) -> None:
    class UnixServer(socketserver.UnixStreamServer):
        def get_request(self) -> tuple[Any, Any]:
            return super().get_request()[0], ("local", 0)

    path = str(tmp_path / "s")
    with UnixServer(path, Echo) as served:
        thread = threading.Thread(target=served.handle_request)
        thread.start()
        address = Address(0)
        address.url = f"unix:{path}"
        value = np.ones((1, 2), "f4")
        np.testing.assert_array_equal(testing.infer(cast("Server", address), "echo", x=value)["x"], value)
        thread.join()


def test_what_the_engine_refuses_is_raised(server: Server) -> None:
    with pytest.raises(RequestError, match=r"^no such model$") as caught:
        testing.infer(server, "other", x=np.zeros(1, "f4"))
    assert (caught.value.status, caught.value.code) == (404, "unknown_model")


def test_numbers_without_a_datatype_are_refused_here(server: Server) -> None:
    with pytest.raises(TypeError, match="complex64"):
        testing.infer(server, "echo", x=np.zeros(1, "c8"))
