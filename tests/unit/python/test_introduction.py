"""The words at the end of a start, for people and for scripts."""

import io
import sys
from typing import Any

import pytest

from samovar.config import ServerConfig
from samovar.control.console import Style
from samovar.control.introduction import Introduction
from unit.python.fake_engine import CAUSE, described

HTTP = {"host": "127.0.0.1", "port": 8000, "path": None}
PEOPLE = Style(is_terminal=True, has_colours=False, has_symbols=True)


def lines(style: Style, addresses: dict[str, Any] | None = None, model: dict[str, Any] | None = None) -> list[str]:
    """The introduction of a start with one model that serves and one that failed."""
    specification = {**described("stn"), "options": {"max_batch_size": 8}, **(model or {})}
    versions: list[dict[str, Any]] = [
        {"name": "stn", "version": "1", "state": "ready", "cause": None},
        {"name": "lprnet", "version": "2", "state": "failed", "cause": {**CAUSE, "stderr": ["reading", "\x1b[2J"]}},
    ]
    known = ({("stn", "1"): specification}, {("stn", "1"): 1.25})
    return Introduction(ServerConfig(), {"http": HTTP, **(addresses or {})}, versions, [], *known, style).lines()


def test_scripts_get_one_line_for_each_thing() -> None:
    assert lines(Style())[:-1] == [
        "samovar serves 1 of 2 models at http://127.0.0.1:8000",
        "  stn (version 1) ready, batches of up to 8 rows",
        "  lprnet (version 2) failed: no weights; put them there",
        "try:",
    ]


def test_people_get_marks_times_and_what_the_worker_wrote() -> None:
    assert lines(PEOPLE)[:-1] == [
        "samovar serves 1 of 2 models at http://127.0.0.1:8000",
        "  ✓ stn (version 1) ready in 1.2 s, python, batches of up to 8 rows",
        "  ✗ lprnet (version 2) failed: no weights",
        "      put them there",
        "      reading",
        "      \\x1b[2J",
        "try:",
    ]


def test_a_service_tells_its_addresses_and_how_to_call_it() -> None:
    routes = [{"methods": ["POST"], "path": f"/stn/{name}", "idempotent": False} for name in "abcdef"]
    service = {"routes": routes, "mounts": ["/stn", "/ui"], "methods": [], "description": ""}
    source = {"request": {"method": "POST", "path": "/stn/a", "fields": {"n": 1}, "files": []}}
    model = {"runtime": "service", "service": service, "source": source, "batch_axis": False}
    title, version, *_, call = lines(Style(), {"admin": "/run/7.sock"}, model)
    assert title == "samovar serves 1 of 2 models and services at http://127.0.0.1:8000"
    assert version == (
        "  stn (version 1) ready, service, POST /stn/a, POST /stn/b, POST /stn/c, POST /stn/d, 3 more, "
        "docs at http://127.0.0.1:8000/stn/docs"
    )
    assert call.startswith("  curl http://127.0.0.1:8000/stn/a -H ")


@pytest.mark.parametrize(
    ("dims", "cure"),
    [(None, "declare datatypes and shapes in samovar.toml to batch"), ([3], "batch_axis = true in samovar.toml")],
)
def test_how_to_get_batches_is_told(dims: list[int] | None, cure: str) -> None:
    tensor = {"name": "x", "datatype": "FP32", "dims": dims}
    options = {"max_batch_size": 1, "instances": 1, "concurrency": 1}
    model = {"runtime": "torchscript", "inputs": [tensor], "outputs": [], "batch_axis": False, "options": options}
    assert f"no batch axis: one request at a time ({cure}" in lines(Style(), model=model)[1]
    assert lines(Style(), model={**model, "streams": True})[1].endswith(" ready, streams, one request at a time")


def test_every_door_is_named_and_the_commands_work_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run")
    doors = {"grpc": {**HTTP, "port": 8001}, "admin": "/run/samovar/7.sock"}
    *_, place, title, infer, curl = lines(Style(), doors)
    assert place == "  gRPC at 127.0.0.1:8001, admin socket /run/samovar/7.sock"
    assert title == "try:"
    assert infer == "  samovar infer stn --input 'x=[[0.5, 0.5]]'"
    assert curl.startswith("  curl http://127.0.0.1:8000/v2/models/stn/infer ")
    elsewhere = lines(Style(), {"admin": "/srv/a b.sock"})[-2]
    assert elsewhere == f"{infer} --engine '/srv/a b.sock'", "no command looks for it there"
    large = [{"name": "x", "datatype": "FP32", "dims": [3, 224, 224]}]
    assert not any("infer --input" in line for line in lines(Style(), doors, {"inputs": large}))


@pytest.mark.parametrize(
    ("encoding", "environment", "style"),
    [
        ("utf-8", {"TERM": "xterm"}, Style(True, True, True)),
        ("utf-8", {"TERM": "xterm", "NO_COLOR": "1"}, Style(True, False, True)),
        ("latin-1", {"TERM": "xterm"}, Style(True, True, False)),
        ("utf-8", {"TERM": "dumb"}, Style()),
    ],
)
def test_the_style_is_that_of_the_stream(
    monkeypatch: pytest.MonkeyPatch, encoding: str, environment: dict[str, str], style: Style
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Style.of("stdout") == style
    monkeypatch.setattr(sys, "stdout", None)
    assert Style.of("stdout") == Style()
