"""Log lines: one object each where nobody watches, one per request, and the request on every line about it."""

import json
import re
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from http_door import Answer
from protocol.asking import FORMS, Ask, Tensor
from serving import Serve, Served

X = {"x": np.ones((1, 1), np.float32)}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def stopped(served: Served) -> list[dict[str, Any]]:
    """The whole log of an engine, which ends with it."""
    assert served.stop() == 0
    return served.log()


def access(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["message"] == "request"]


def infer(served: Served, model: str, request_id: str, x: float = 1.0) -> Answer:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [x]}
    return served.http.post(f"/v2/models/{model}/infer", {"id": request_id, "inputs": [tensor]})


def test_each_line_is_an_object_with_time_level_and_message(serve: Serve) -> None:
    served = serve("talking.py")
    infer(served, "talking", "first")
    assert served.stop() == 0
    for text in served.log_path.read_text().splitlines():
        line = json.loads(text)
        assert TIME.fullmatch(line["timestamp"])
        assert line["level"] in ("INFO", "WARN", "ERROR")
        assert isinstance(line["message"], str)


def test_each_request_leaves_one_access_line(serve: Serve) -> None:
    served = serve("raising.py")
    infer(served, "raising", "good")
    infer(served, "raising", "bad", -1)
    served.http.request("POST", "/v2/models/raising/infer?secret=1", b"no JSON", {"x-request-id": "worse"})
    served.http.get("/v2/health/live")
    served.http.get("/nowhere%0a")
    good, bad, worse, live, nowhere = access(stopped(served))
    assert good["duration_ms"] > 0
    assert good["bytes_in"] > 0
    assert good["bytes_out"] > 0
    wanted = {"method": "POST", "path": "/v2/models/raising/infer", "model": "raising", "version": "1"}
    for line, status, request_id in ((good, 200, "good"), (bad, 500, "bad"), (worse, 400, "worse")):
        assert wanted.items() <= line.items()
        assert (line["status"], line["request_id"]) == (status, request_id)
    assert "code" not in good
    assert (bad["code"], worse["code"]) == ("model_error", "invalid_request")
    assert (live["method"], live["path"], live["status"]) == ("GET", "/v2/health/live", 200)
    assert (nowhere["path"], nowhere["status"]) == ("/nowhere%0a", 404)


def test_access_line_of_a_client_that_went_away_says_so(serve: Serve) -> None:
    served = serve("slow.py")
    body = b'{"id":"gone","inputs":[{"name":"seconds","datatype":"FP32","shape":[1,1],"data":[0.3]}]}'
    with served.http.wire() as wire:
        head = b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        wire.send(head, body)
        assert served.http.get("/v2/models/slow").status == 200  # the request before it has been read
    (line,) = [line for line in access(stopped(served)) if line["path"].endswith("infer")]
    assert (line["status"], line["code"]) == (499, "cancelled")
    assert (line["model"], line["version"], line["request_id"]) == ("slow", "1", "gone")


def test_access_lines_can_be_switched_off(serve: Serve) -> None:
    served = serve("raising.py", options=["--no-access-log"])
    infer(served, "raising", "good")
    infer(served, "raising", "bad", -1)
    lines = stopped(served)
    assert not access(lines)
    (error,) = [line for line in lines if line.get("request_id") == "bad"]
    assert (error["level"], error["model"], error["version"]) == ("ERROR", "raising", "1")
    assert "negative input -1" in error["message"]
    assert "raising.py" in error["traceback"]


def test_lines_of_a_worker_name_what_it_ran(serve: Serve) -> None:
    served = serve("talking.py")
    infer(served, "talking", "first", 7)
    lines = [line for line in stopped(served) if line["message"].startswith("talking:")]
    said = {line["message"]: line for line in lines}
    assert set(said) == {"talking: load on stdout", "talking: load on stderr", "talking: predict 7"}
    for line in lines:
        assert (line["model"], line["version"], line["instance"]) == ("talking", "1", 0)
    assert said["talking: predict 7"]["request_id"] == "first"
    assert said["talking: load on stderr"]["stream"] == "stderr"
    assert "request_id" not in said["talking: load on stdout"]


def test_hostile_text_stays_on_its_line(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32")
    poison = 'a\n{"level":"ERROR"}\x1b[31m\u2028"'
    infer(served, "echo_fp32", poison)
    (line,) = [line for line in access(stopped(served)) if line["status"] == 200]
    assert line["request_id"] == poison
    assert "\x1b" not in served.log_path.read_text()


FORGED = '{"timestamp":"2026-01-01T00:00:00.000Z","level":"ERROR","message":"forged"}'
POISON = "a\n" + FORGED + '\r\x1b[31m\x9b\x7f\u2028\u202e"\\'


@pytest.mark.parametrize("form", ["json", "text"])
def test_each_event_is_one_line_whatever_clients_write(serve: Serve, form: str) -> None:
    served = serve("echo.py:EchoFp32", options=["--log-format", form])
    before = len(served.log_path.read_text().splitlines())
    asks = [
        Ask(id=POISON),
        Ask(model=POISON),
        Ask(version=POISON),
        Ask(inputs=[Tensor(name=POISON)]),
        Ask(inputs=[Tensor(datatype=POISON)]),
        Ask(inputs=[Tensor(parameters={POISON: POISON})]),
        Ask(outputs=[(POISON, {POISON: POISON})]),
        Ask(parameters={POISON: POISON}),
    ]
    for ask in asks:
        for send in FORMS.values():
            outcome = send(served, ask)
            assert outcome.message.isprintable()
    in_header = FORGED.encode() + b'\t\x9b\x80\xff"\\'  # what the parser lets through
    with served.http.wire() as wire:
        names = (b"x-request-id", b"traceparent", b"user-agent", b"content-type", b"samovar-timeout-ms", b"origin")
        for name in names:
            wire.send(b"GET /v2/health/live?" + quote(POISON).encode() + b" HTTP/1.1\r\nHost: localhost\r\n")
            wire.send(name, b": ", in_header, b"\r\n\r\n")
            wire.answer()
    assert served.stop() == 0
    text = served.log_path.read_text()
    lines = text.split("\n")
    assert lines.pop() == ""
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith(FORGED[:24])]
    requests = [line for line in lines[before:] if "/v2/" in line or "GRPCInferenceService" in line]
    assert len(requests) == len(asks) * len(FORMS) + len(names)


def test_text_lines_are_for_people(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", options=["--log-format", "text"])
    infer(served, "echo_fp32", "first")
    assert served.stop() == 0
    lines = served.log_path.read_text().splitlines()
    (line,) = [line for line in lines if "/infer" in line]
    for word in ("INFO", "status=200", "model=echo_fp32", "version=1", "request_id=first"):
        assert word in line
    assert not served.log()
