"""Where an engine listens, and what it says when it starts."""

import contextlib
import json
import os
import pty
import re
import shlex
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from commands import run
from http_door import Http, Wire
from serving import APPS, NotReadyError, Serve, Served

X = {"x": np.ones((1, 2), np.float32)}
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: whoever\r\n\r\n"


def said(served: Served) -> list[str]:
    """The lines of standard output."""
    return served.stdout_path.read_text().splitlines()


def test_ready_file_says_where_and_what(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", "loadfail.py")
    assert set(served.ready) == {"pid", "ports", "admin", "models"}
    assert served.ready["pid"] == served.pid
    ports = served.ready["ports"]
    assert set(ports) == {"http", "grpc"}
    assert ports["http"] == served.port != ports["grpc"]
    good, bad = served.model("echo_fp32"), served.model("loadfail")
    assert good == {"name": "echo_fp32", "version": "1", "state": "ready", "cause": None}
    assert (bad["version"], bad["state"], bad["cause"]["exception"]) == ("1", "failed", "RuntimeError")
    assert bad["cause"]["stderr"][-1].startswith("loadfail line 59") or "loadfail line 59" in str(
        bad["cause"]["stderr"]
    )
    assert bad["cause"]["next_step"]
    assert {line["state"] for line in served.http.post("/v2/repository/index", {}).json()} == {"READY", "UNAVAILABLE"}


@pytest.mark.parametrize("is_abstract", [False, True])
def test_a_service_manager_is_told_of_start_and_stop(serve: Serve, tmp_path: Path, is_abstract: bool) -> None:
    name = f"@samovar-{os.getpid()}-{tmp_path.name}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(30)
        served = serve("echo.py:EchoFp32", "loadfail.py", environment={"NOTIFY_SOCKET": name})
        assert manager.recv(1_000) == b"READY=1\nSTATUS=serves 1 of 2 models"
        of_workers = [Path(f"/proc/{pid}/environ").read_bytes() for pid in served.workers()]
        assert not any(b"NOTIFY_SOCKET" in variables for variables in of_workers), "they could speak for the engine"
        assert served.stop() == 0
        assert manager.recv(1_000) == b"STOPPING=1"


def test_a_service_manager_is_not_told_of_a_start_that_serves_nothing(serve: Serve, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        with pytest.raises(NotReadyError):
            serve("loadfail.py", environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        manager.setblocking(False)
        told = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(manager.recv(1_000))
        assert not [states for states in told if b"READY" in states]


def test_start_says_what_is_served_where_and_how_to_call_it(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", "loadfail.py")
    text = "\n".join(said(served))
    assert f"http://127.0.0.1:{served.port}" in text
    assert "1 of 2 models" in text
    assert "the weights are not there" in text
    assert "exposed" not in text
    words = shlex.split(said(served)[-1])
    url, data = next(word for word in words if word.startswith("http://")), words[words.index("-d") + 1]
    path = url.removeprefix(f"http://127.0.0.1:{served.port}")
    assert served.http.request("POST", path, data.encode(), {"Content-Type": "application/json"}).status == 200


def test_engine_is_ready_with_a_failed_model_unless_readiness_is_strict(serve: Serve) -> None:
    for options, status in (([], 200), (["--strict-readiness"], 503)):
        served = serve("echo.py:EchoFp32", "loadfail.py", options=options)
        assert served.http.get("/v2/health/live").status == 200
        assert served.http.get("/v2/health/ready").status == status
        assert served.http.infer("echo_fp32", X).status == 200
        refused = served.http.get("/v2/models/loadfail/ready")
        assert (refused.status, refused.code()) == (503, "model_failed")
        refused = served.http.infer("loadfail", {"x": np.ones((1, 1), np.float32)})
        assert (refused.status, refused.code()) == (503, "model_failed")
        assert "the weights are not there" in refused.json()["error"]


def test_target_that_cannot_be_described_is_listed_with_its_cause(serve: Serve, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("this is no Python")
    served = serve("echo.py:EchoFp32", str(broken))
    assert served.model("broken")["state"] == "failed"
    assert "SyntaxError" in json.dumps(served.model("broken")["cause"])
    for answer in (served.http.get("/v2/models/broken/ready"), served.http.infer("broken", X)):
        assert (answer.status, answer.code()) == (503, "model_failed")
    ran = run("infer", "broken", "-i", "[[1]]", "--engine", served.ready["admin"])
    assert ran.code == 1
    assert ran.err.startswith('samovar: model "broken" has failed: '), "its inputs are not known, and not the fault"


def test_ipv6_loopback_is_served(serve: Serve) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    served = serve("echo.py:EchoFp32", options=["--host", "::1"])
    assert Http(served.port, host="::1").infer("echo_fp32", X).status == 200
    assert f"http://[::1]:{served.port}" in "\n".join(said(served))
    with pytest.raises(ConnectionRefusedError):
        served.http.get("/v2")


def test_unix_socket_is_served_to_its_owner_alone(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "samovar.sock"
    served = serve("echo.py:EchoFp32", options=["--host", f"unix:{path}"])
    assert served.ready["ports"] == {"http": None, "grpc": None}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with connect(path) as wire:
        wire.send(LIVE)
        assert wire.answer().status == 200
    assert f"models at unix:{path}" in said(served)[0]
    assert served.stop() == 0
    assert not path.exists()
    assert not served.ready_path.exists()


def test_unix_socket_that_nobody_serves_is_replaced_and_another_engines_is_not(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "samovar.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    serve("echo.py:EchoFp32", options=["--host", f"unix:{path}"])
    with pytest.raises(NotReadyError, match=f"cannot bind unix:{path}: .*; choose another path") as refused:
        serve("echo.py:EchoFp32", options=["--host", f"unix:{path}"])
    assert "port" not in str(refused.value)
    with connect(path) as wire:
        wire.send(LIVE)
        assert wire.answer().status == 200


def test_port_in_use_stops_the_start_and_says_so(serve: Serve) -> None:
    first = serve("echo.py:EchoFp32")
    with pytest.raises(NotReadyError, match=f"(?s){first.port}.*in use|in use.*{first.port}"):
        serve("echo.py:EchoFp32", options=["--http-port", str(first.port)])


def test_ready_file_that_cannot_be_written_stops_the_start_before_the_loads(serve: Serve, tmp_path: Path) -> None:
    for path, cure in ((tmp_path / "missing" / "ready.json", "there is no folder"), (tmp_path, "is a folder")):
        served = serve("echo.py:EchoFp32", options=["--ready-file", str(path)], ready=False)
        assert served.process.wait(timeout=30) == 2
        (line,) = served.output().splitlines()
        assert line.startswith(f'samovar: ready file "{path}"')
        assert cure in line


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">/dev/full", "2>/dev/full", "<&- >&- 2>&-", "| true"])
def test_output_that_nobody_takes_ends_no_engine(tmp_path: Path, redirection: str) -> None:
    ready, errors = tmp_path / "ready.json", tmp_path / "stderr.txt"
    words = [sys.executable, "-m", "samovar", "serve", str(APPS / "echo.py:EchoFp32"), "--http-port", "0"]
    command = shlex.join([*words, "--grpc-port", "0", "--ready-file", str(ready)])
    if redirection == "| true":  # a pipe whose reader has gone
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer, command = os.open(os.devnull, os.O_WRONLY), f"{command} {redirection}"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(["sh", "-c", f"exec {command}"], stdout=writer, stderr=stderr)
    os.close(writer)
    try:
        while not ready.exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"exit code {process.wait(timeout=0.05)}\n{errors.read_text()}")
        port = json.loads(ready.read_text())["ports"]["http"]
        assert Http(port).infer("echo_fp32", X).status == 200
        process.terminate()
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in errors.read_text()
    assert "Exception ignored" not in errors.read_text()


@pytest.mark.parametrize("moment", ["command", "engine"])
def test_interrupt_during_the_imports_ends_without_a_traceback(tmp_path: Path, moment: str) -> None:
    if moment == "command":  # while it imports its command line
        (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    else:  # before the engine's process has run a line of its own
        text = "import os, signal, sys\nif 'engine' in sys.orig_argv:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        (tmp_path / "sitecustomize.py").write_text(text)
    command = f"{sys.executable} -m samovar serve {APPS / 'echo.py:EchoFp32'} --http-port 0 --grpc-port 0; exit $?"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (130, b"")


def connect(path: Path) -> Wire:
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(30)
    connected.connect(str(path))
    return Wire(connected)


def test_progress_is_drawn_on_a_terminal_and_gone_at_the_end(tmp_path: Path) -> None:
    released, held, failing = (tmp_path / name for name in ("released", "held.py", "loadfail.py"))
    wait = f"\nimport pathlib, time\nwhile not pathlib.Path({str(released)!r}).exists():\n    time.sleep(0.01)\n"
    held.write_text((APPS / "slow.py").read_text() + wait)
    failing.write_text((APPS / "loadfail.py").read_text() + wait)
    words = [sys.executable, "-m", "samovar", "serve", str(held), str(failing), "--http-port", "0"]
    words += ["--grpc-port", "0", "--ready-file", str(tmp_path / "ready.json")]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        try:
            text = ""
            while "try:" not in text:
                text += os.read(ours, 65_536).decode()
                if re.search(r"\r\x1b\[Kloading 0/2  held \d+ s, loadfail \d+ s", text):
                    released.touch()
            process.terminate()
            with contextlib.suppress(OSError):  # EIO: its last descriptor is closed
                while os.read(ours, 65_536):
                    pass
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
            os.close(ours)
    _, _, introduction = text.rpartition("\r\x1b[K")
    assert "loading" not in introduction
    # The log, which a thread of its own writes, may come between.
    assert re.search(r"^samovar serves 1 of 2 models at http://127\.0\.0\.1:", introduction, re.MULTILINE)
    assert "  \x1b[32m✓\x1b[0m \x1b[1mslow\x1b[0m (version 1) ready in " in introduction
    assert "  \x1b[31m✗\x1b[0m \x1b[1mloadfail\x1b[0m (version 1) failed: " in introduction
    assert "      \x1b[2mloadfail line 59\x1b[0m\r\n" in introduction
