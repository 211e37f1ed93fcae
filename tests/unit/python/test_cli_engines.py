"""Which engine a command means, and what its admin socket tells; stand-ins listen where engines would."""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from commands import run

CAUSE: dict[str, Any] = {
    "message": "ValueError: no weights",
    "exception": "ValueError",
    "traceback": "".join(f"line {number}\n" for number in range(30)),
    "signal": None,
    "stderr": ["reading \x1b[31mweights"],
    "next_step": "put them there",
}
TENSOR = {"name": "x", "datatype": "FP32", "dims": [2]}
OPTIONS = {"max_batch_size": 32, "instances": 2, "worker": "ranking", "idempotent": True}
READY = {
    "name": "stn",
    "version": "1",
    "state": "ready",
    "cause": None,
    "runtime": "python",
    "source": {"path": "/app.py", "class": "Stn", "is_async": False},
    "inputs": [TENSOR],
    "outputs": [{"name": "y", "datatype": None, "dims": None}],
    "batch_axis": True,
    "options": OPTIONS,
    "instances": [{"index": 0, "pid": 41, "worker": None}, {"index": 1, "pid": 42, "worker": "ranking/1"}],
    "events": [{"time": 0.0, "state": "loading", "message": ""}],
}
FAILED = {**READY, "version": "2", "state": "failed", "cause": CAUSE, "instances": []}
BROKEN = {**FAILED, "name": "broken", "runtime": "", "source": None, "inputs": [], "outputs": []}
Listen = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where admin sockets are."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "samovar").mkdir(mode=0o700)
    return tmp_path / "samovar"


@pytest.fixture
def listen() -> Iterator[Listen]:
    """An engine with these models behind a socket."""
    with ExitStack() as stack:

        def start(path: Path, *models: dict[str, Any]) -> Path:
            server = stack.enter_context(socketserver.ThreadingUnixStreamServer(str(path), handler(models)))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return path

        yield start


def handler(models: tuple[dict[str, Any], ...]) -> type[BaseHTTPRequestHandler]:
    class Admin(BaseHTTPRequestHandler):
        def setup(self) -> None:
            super().setup()
            self.client_address = ("local", 0)

        def do_GET(self) -> None:
            http = {"host": "127.0.0.1", "port": 8000, "path": None}
            state = {"pid": 1, "addresses": {"http": http, "grpc": None, "admin": "/s"}, "models": models}
            known = self.path == "/admin/state"
            self.answer(200 if known else 404, state if known else {"error": "no such model", "code": "unknown_model"})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(500, {"error": "stn failed", "code": "load_failed"})

        def answer(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean."""

    return Admin


def test_the_only_engine_is_found_and_dead_sockets_are_not(folder: Path, listen: Listen) -> None:
    listen(folder / "41.sock", READY)
    with socketserver.UnixStreamServer(str(folder / "7.sock"), BaseHTTPRequestHandler):
        pass  # closed: its file stays
    assert json.loads(run("models", "list", "--json").out) == [READY]


def test_of_several_one_must_be_named(folder: Path, listen: Listen, tmp_path: Path) -> None:
    listen(folder / "41.sock", READY)
    listen(folder / "42.sock", {**READY, "name": "other"})
    ran = run("models", "list")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        "samovar: 2 engines of yours run here; name one of them:",
        "  --engine 41  http://127.0.0.1:8000  stn",
        "  --engine 42  http://127.0.0.1:8000  other",
    ]
    own = listen(tmp_path / "own", {**READY, "name": "own"})
    for engine, name in (("42", "other"), (str(own), "own"), (f"unix:{own}", "own")):
        (model,) = json.loads(run("models", "list", "--engine", engine, "--json").out)
        assert model["name"] == name
    ran = run("models", "list", "--engine", "9")
    assert (ran.code, ran.err) == (3, "samovar: no engine of yours has the process id 9; those that run: 41, 42\n")


@pytest.mark.parametrize("option", ["--url", "--engine"])
def test_an_empty_name_is_not_the_only_engine(folder: Path, listen: Listen, option: str) -> None:
    listen(folder / "7.sock", READY)
    ran = run("models", "unload", "stn", option, "")
    assert (ran.code, ran.err) == (2, f"samovar: {option} is empty; name an engine, or leave the option out\n")


def test_a_folder_that_others_can_write_to_is_not_trusted(folder: Path, listen: Listen) -> None:
    listen(folder / "41.sock", READY)
    folder.chmod(0o777)
    assert run("models", "list").code == 3


def test_the_list_has_state_runtime_batching_and_the_first_line_of_a_cause(folder: Path, listen: Listen) -> None:
    listen(folder / "41.sock", READY, FAILED, BROKEN)
    words = [line.split() for line in run("models", "list").out.splitlines()]
    assert words == [
        ["name", "version", "state", "runtime", "batch", "instances", "cause"],
        ["stn", "1", "ready", "python", "32", "2", "of", "2", "in", "ranking"],
        ["stn", "2", "failed", "python", "32", "0", "of", "2", "in", "ranking", *CAUSE["message"].split()],
        ["broken", "2", "failed", *CAUSE["message"].split()],
    ]
    assert run("models", "show", "broken").out.startswith("broken version 2 is failed\nValueError: no weights\n")


def test_show_tells_all_and_the_end_of_a_traceback(folder: Path, listen: Listen) -> None:
    listen(folder / "41.sock", READY, FAILED)
    lines = run("models", "show", "stn").out.splitlines()
    assert lines[0] == "stn version 1 is ready"
    facts = [" ".join(line.split()) for line in lines]
    for fact in (
        "source /app.py:Stn",
        "instances 0 (pid 41), 1 (pid 42, worker ranking/1)",
        "options max_batch_size=32 instances=2 worker=ranking idempotent=true",
        "inputs x FP32 [batch,2]",
        "outputs y unknown unknown",
    ):
        assert fact in facts
    failed = lines.index("stn version 2 is failed")
    assert lines[failed + 1 : failed + 4] == ["ValueError: no weights", "cure: put them there", "traceback, its end:"]
    assert lines[failed + 4 : failed + 16] == [f"  line {number}" for number in range(18, 30)]
    assert lines[failed + 17] == r"  reading \x1b[31mweights"


def test_a_load_that_fails_tells_the_cause(folder: Path, listen: Listen) -> None:
    listen(folder / "41.sock", FAILED)
    ran = run("models", "load", "stn")
    assert (ran.code, ran.out) == (1, "")
    assert "  line 29\n" in ran.err
    assert ran.err.endswith("samovar: stn failed\n")


def test_a_model_that_is_not_there_is_a_refusal(folder: Path, listen: Listen) -> None:
    listen(folder / "41.sock", READY)
    ran = run("models", "show", "other")
    assert (ran.code, ran.out, ran.err) == (1, "", "samovar: no such model\n")
