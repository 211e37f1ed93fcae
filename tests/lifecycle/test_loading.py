"""Loads that do not end well: the cause is told everywhere, and nobody else suffers."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import NotReadyError, Serve, Served, both_transports
from watching import entry, eventually

X = {"x": np.ones((1, 1), np.float32)}
GOOD = "mortal.py:Mortal"


def check_told_everywhere(served: Served, model: str, text: str) -> dict[str, Any]:
    """The ready file, the API, the log and a request's error say why; the ready file's cause."""
    described = served.model(model)
    assert described["state"] == "failed"
    cause: dict[str, Any] = described["cause"]
    assert text in cause["message"]
    assert cause["next_step"]
    assert entry(served, model)["state"] == "UNAVAILABLE"
    assert text in entry(served, model)["reason"]
    line = next(line for line in served.log() if line.get("model") == model and line.get("next_step"))
    assert text in line["message"]
    answer = served.http.infer(model, X)
    assert (answer.status, answer.code()) == (503, "model_failed")
    assert text in answer.json()["error"]
    assert served.http.get(f"/v2/models/{model}/ready").json()["code"] == "model_failed"
    return cause


def check_only_the_good_one_has_a_worker(served: Served) -> None:
    eventually(lambda: len(served.workers()) == 2, "one worker and the spare")


def test_an_exception_in_load_is_told_with_the_last_fifty_lines(serve: Serve) -> None:
    served = serve("loadfail.py", GOOD)
    cause = check_told_everywhere(served, "loadfail", "the weights are not there")
    assert cause["exception"] == "RuntimeError"
    assert cause["signal"] is None
    assert [line for line in cause["stderr"] if line.startswith("loadfail line")][-1] == "loadfail line 59"
    assert len(cause["stderr"]) == 50
    check_only_the_good_one_has_a_worker(served)


@both_transports
def test_a_load_that_hangs_is_ended_at_its_time_limit(serve: Serve) -> None:
    served = serve("loadhang.py", GOOD)
    cause = check_told_everywhere(served, "loadhang", "did not load within 1 s")
    assert "load_timeout_s" in cause["next_step"]
    check_only_the_good_one_has_a_worker(served)


def test_a_death_in_load_is_tried_again_with_waits_and_then_told(serve: Serve) -> None:
    began = time.monotonic()
    served = serve("loaddie.py", GOOD)
    assert time.monotonic() - began > 7, "waits of 0.1, 0.5, 2 and 5 s"
    cause = check_told_everywhere(served, "loaddie", "while it loaded")
    assert "SIGKILL" in cause["signal"]
    assert "about to die in load" in cause["stderr"]
    check_only_the_good_one_has_a_worker(served)


APP = """
import os
import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float32

import samovar

{module}

@samovar.model
class App:
    def load(self) -> None:
        {load}

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return x
"""


def write_app(folder: Path, *, module: str = "", load: str = "pass") -> str:
    file = folder / "app.py"
    file.write_text(APP.format(module=module, load=load))
    return str(file)


def test_a_load_that_dies_once_succeeds_at_the_second_try(serve: Serve, tmp_path: Path) -> None:
    marker = tmp_path / "died"
    load = f"Path({str(marker)!r}).exists() or (Path({str(marker)!r}).touch(), os._exit(7))"
    served = serve(write_app(tmp_path, load=load))
    assert served.model("app")["state"] == "ready"
    assert served.http.infer("app", X).status == 200


@pytest.mark.parametrize(
    ("module", "texts"),
    [
        ("os._exit(9)", ["exit status 9"]),
        ("os.kill(os.getpid(), 11)", ["SIGSEGV"]),
        ("sys.exit(1)", ["app.py cannot be imported", "SystemExit"]),
        ("import no_such_module_anywhere", ["no_such_module_anywhere", "install"]),
        ("def broken(:", ["app.py cannot be imported", "SyntaxError"]),
        ("raise RuntimeError('not today')", ["not today"]),
    ],
)
def test_a_file_that_cannot_be_imported_stops_the_start_with_the_reason(
    serve: Serve, tmp_path: Path, module: str, texts: list[str]
) -> None:
    with pytest.raises(NotReadyError, match="exit code 1") as error:
        serve(write_app(tmp_path, module=module))
    for text in texts:
        assert text in str(error.value)


def test_a_file_that_cannot_be_imported_is_listed_beside_those_that_can(serve: Serve, tmp_path: Path) -> None:
    served = serve(write_app(tmp_path, module="print('import talks', file=sys.stderr); os._exit(9)"), GOOD)
    cause = served.model("app")["cause"]
    assert served.model("app")["state"] == "failed"
    assert "exit status 9" in cause["message"]
    assert cause["stderr"] == ["import talks"]
    assert cause["next_step"]
    assert entry(served, "app")["state"] == "UNAVAILABLE"
    check_only_the_good_one_has_a_worker(served)


def test_a_failed_load_can_be_tried_again_on_demand(serve: Serve, tmp_path: Path) -> None:
    file = Path(write_app(tmp_path, load="raise RuntimeError('first')"))
    served = serve(str(file), GOOD, options=["--control", "explicit"])
    again = served.http.post("/v2/repository/models/app/load", {})
    assert (again.status, again.code()) == (500, "load_failed")
    assert "first" in again.json()["error"]
    write_app(tmp_path)
    assert served.http.post("/v2/repository/models/app/load", {}).status == 200
    assert served.http.infer("app", X).status == 200
