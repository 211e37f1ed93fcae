"""Where an engine listens, and what it says when it starts."""

import json
import shlex
import socket
import stat
from pathlib import Path

import numpy as np
import pytest

from http_door import Http, Wire
from serving import NotReadyError, Serve, Served

X = {"x": np.ones((1, 2), np.float32)}
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: whoever\r\n\r\n"


def said(served: Served) -> list[str]:
    """The lines of standard output."""
    return served.stdout_path.read_text().splitlines()


def test_ready_file_says_where_and_what(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", "loadfail.py")
    assert set(served.ready) == {"pid", "ports", "models"}
    assert served.ready["pid"] == served.pid
    assert served.ready["ports"] == {"http": served.port, "grpc": None}
    good, bad = served.model("echo_fp32"), served.model("loadfail")
    assert good == {"name": "echo_fp32", "version": "1", "state": "ready", "cause": None}
    assert (bad["version"], bad["state"], bad["cause"]["exception"]) == ("1", "failed", "RuntimeError")
    assert bad["cause"]["stderr"][-1].startswith("loadfail line 59") or "loadfail line 59" in str(
        bad["cause"]["stderr"]
    )
    assert bad["cause"]["next_step"]
    assert {line["state"] for line in served.http.post("/v2/repository/index", {}).json()} == {"READY", "UNAVAILABLE"}


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
    assert str(path) in "\n".join(said(served))
    assert served.stop() == 0
    assert not path.exists()


def test_unix_socket_that_nobody_serves_is_replaced_and_another_engines_is_not(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "samovar.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    serve("echo.py:EchoFp32", options=["--host", f"unix:{path}"])
    with pytest.raises(NotReadyError, match=path.name):
        serve("echo.py:EchoFp32", options=["--host", f"unix:{path}"])
    with connect(path) as wire:
        wire.send(LIVE)
        assert wire.answer().status == 200


def test_port_in_use_stops_the_start_and_says_so(serve: Serve) -> None:
    first = serve("echo.py:EchoFp32")
    with pytest.raises(NotReadyError, match=f"(?s){first.port}.*in use|in use.*{first.port}"):
        serve("echo.py:EchoFp32", options=["--http-port", str(first.port)])


def connect(path: Path) -> Wire:
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(30)
    connected.connect(str(path))
    return Wire(connected)
