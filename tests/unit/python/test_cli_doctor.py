"""The doctor tells what is there, and ends with 1 where something is wrong."""

import json
import socket
from importlib import metadata
from pathlib import Path

import pytest

from commands import run
from samovar.cli import checkup
from samovar.cli.engines import Running


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No engine, no configuration file, any free port."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for port in ("HTTP", "GRPC"):
        monkeypatch.setenv(f"SAMOVAR_{port}_PORT", "0")


def test_it_tells_versions_runtimes_limits_and_what_a_start_exposes() -> None:
    ran = run("doctor", "--json")
    found = json.loads(ran.out)
    assert (ran.code, ran.err, found["problems"], found["engines"]) == (0, "", [], [])
    assert found["versions"]["samovar"] == metadata.version("samovar")
    assert found["runtimes"]["python"] == {"found": True, "missing": [], "install": ""}
    assert found["start"]["open_to"] == "this machine"
    assert found["start"]["load_and_unload"] == "admin socket"
    shown = run("doctor")
    assert shown.out.endswith("nothing is wrong\n")
    assert "none of yours runs here" in shown.out


def test_what_is_open_to_others_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HOST", "0.0.0.0"), ("CONTROL", "explicit"), ("ADMIN_SOCKET", "none")):
        monkeypatch.setenv(f"SAMOVAR_{name}", value)
    start = json.loads(run("doctor", "--json").out)["start"]
    assert start["open_to"] == "whoever reaches 0.0.0.0, without a password"
    assert (start["load_and_unload"], start["admin_socket"]) == ("HTTP, gRPC", "none")


def test_a_wrong_setting_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "samovar.toml").write_text("http_prt = 1\n")
    ran = run("doctor")
    assert ran.code == 1
    assert 'wrong: unknown setting "http_prt" in samovar.toml; did you mean "http_port"?' in ran.out


def test_a_port_that_another_program_has_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("SAMOVAR_HTTP_PORT", str(port))
        ran = run("doctor")
    assert ran.code == 1
    assert f"port {port} cannot be bound: Address already in use; choose another --host or --http-port" in ran.out


def test_what_is_missing_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "find_spec", lambda module: None if module == "numpy" else object())
    monkeypatch.setattr(metadata, "requires", lambda _: ["no-such-package>=1", "torch>=2 ; extra == 'torch'"])
    ran = run("doctor")
    assert ran.code == 1
    assert "missing; pip install numpy" in ran.out
    assert "no-such-package, which samovar needs, is not installed; run: pip install no-such-package" in ran.out
    assert "torch, which" not in ran.out


def test_an_engine_that_does_not_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkup, "running", lambda: [Running(tmp_path / "77.sock", None)])
    ran = run("doctor")
    assert ran.code == 1
    assert "wrong: the engine with the process id 77 does not answer; end it: kill -9 77" in ran.out


def test_an_address_in_brackets_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    monkeypatch.setenv("SAMOVAR_HOST", "[::1]")
    found = json.loads(run("doctor", "--json").out)
    assert (found["problems"], found["start"]["open_to"]) == ([], "this machine")


def test_a_folder_of_somebody_else_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "samovar").mkdir()
    (tmp_path / "samovar").chmod(0o777)
    ran = run("doctor")
    assert ran.code == 1
    assert "is not yours alone" in ran.out
