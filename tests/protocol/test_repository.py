"""Models that come, go and change while the engine serves, over the protocol's own paths."""

import os
from pathlib import Path

import numpy as np
import pytest

from http_door import Answer
from serving import Serve, Served
from watching import entry, eventually, is_ready

X = {"x": np.ones((1, 1), np.float32)}
MODEL = """
import os
import numpy as np
import samovar
from jaxtyping import Float32

@samovar.model(name="changing")
class Changing:
    def load(self) -> None:
        {load}

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return x * {factor}
"""
EXPLICIT = ["--control", "explicit"]


@pytest.fixture
def changing(tmp_path: Path) -> Path:
    """A program that tests write anew."""
    program = tmp_path / "changing.py"
    write(program, 1)
    return program


def write(program: Path, factor: int, load: str = "pass") -> None:
    program.write_text(MODEL.format(factor=factor, load=load))


def control(served: Served, model: str, verb: str) -> Answer:
    return served.http.request("POST", f"/v2/repository/models/{model}/{verb}")


def result(served: Served) -> float:
    return float(served.http.infer("changing", X).arrays()["output"][0, 0])


def test_without_explicit_control_nobody_loads_or_unloads(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32")
    for verb in ("load", "unload"):
        answer = control(served, "echo_fp32", verb)
        assert (answer.status, answer.code()) == (403, "control_disabled")
        assert "--control explicit" in answer.json()["error"]
    assert is_ready(served, "echo_fp32")


def test_model_is_unloaded_and_loaded_again(serve: Serve, changing: Path) -> None:
    served = serve(str(changing), "echo.py:EchoFp32", options=EXPLICIT)
    before = set(served.workers())
    unloaded = control(served, "changing", "unload")
    assert (unloaded.status, unloaded.body) == (200, b"")
    assert entry(served, "changing") == {
        "name": "changing", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded",
    }  # fmt: skip
    for answer in (served.http.get("/v2/models/changing/ready"), served.http.infer("changing", X)):
        assert (answer.status, answer.code()) == (503, "not_ready")
    assert is_ready(served)
    ready = served.http.post("/v2/repository/index", {"ready": True}).json()
    assert [line["name"] for line in ready] == ["echo_fp32"]
    assert control(served, "changing", "load").status == 200
    assert entry(served, "changing")["state"] == "READY"
    assert result(served) == 1
    assert len(before - set(served.workers())) >= 1


def test_reload_takes_the_new_program_and_the_old_one_serves_meanwhile(
    serve: Serve, changing: Path, tmp_path: Path
) -> None:
    served = serve(str(changing), options=EXPLICIT)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    write(changing, 2, f"open({str(pipe)!r}).read()")
    with served.http.wire() as wire:
        wire.send(b"POST /v2/repository/models/changing/load HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pipe.open("w"):  # opens when the new one is in load()
            assert [result(served) for _ in range(5)] == [1] * 5
            assert entry(served, "changing")["state"] == "READY"
        assert wire.answer().status == 200
    assert result(served) == 2


def test_reload_that_fails_leaves_the_old_one_serving_and_says_why(serve: Serve, changing: Path) -> None:
    served = serve(str(changing), options=EXPLICIT)
    write(changing, 2, "raise RuntimeError('no weights today')")
    answer = control(served, "changing", "load")
    assert (answer.status, answer.code()) == (500, "load_failed")
    assert "no weights today" in answer.json()["error"]
    assert result(served) == 1
    changing.write_text("no Python at all")
    answer = control(served, "changing", "load")
    assert (answer.status, answer.code()) == (500, "load_failed")
    assert result(served) == 1
    write(changing, 3)
    assert control(served, "changing", "load").status == 200
    assert result(served) == 3


def test_model_that_failed_is_loaded_once_it_is_mended(serve: Serve, changing: Path) -> None:
    write(changing, 1, "raise RuntimeError('no weights today')")
    served = serve(str(changing), "echo.py:EchoFp32", options=EXPLICIT)
    failed = entry(served, "changing")
    assert failed["state"] == "UNAVAILABLE"
    assert "no weights today" in failed["reason"]
    write(changing, 1)
    assert control(served, "changing", "load").status == 200
    assert result(served) == 1


def test_file_that_was_no_python_is_served_once_it_is_mended(serve: Serve, changing: Path) -> None:
    changing.write_text("no Python at all")
    served = serve(str(changing), "echo.py:EchoFp32", options=EXPLICIT)
    assert entry(served, "changing")["state"] == "UNAVAILABLE"
    write(changing, 1)
    assert control(served, "changing", "load").status == 200
    eventually(lambda: is_ready(served, "changing"), "the mended model is ready")
    assert result(served) == 1


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_control_of_an_unknown_model_is_404(serve: Serve, verb: str) -> None:
    served = serve("echo.py:EchoFp32", options=EXPLICIT)
    answer = control(served, "nothing", verb)
    assert (answer.status, answer.code()) == (404, "unknown_model")
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}):
        path = f"/v2/repository/models/echo_fp32/{verb}"
        answer = served.http.post(path, {"parameters": parameters})
        assert answer.status == (400 if verb == "load" else 200)
