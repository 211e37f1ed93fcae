"""The commands that talk to an engine, against a real one."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import models
from commands import run
from protocol.gates import Begin
from serving import APPS, Serve, Served


@pytest.fixture
def url(shared: Served) -> tuple[str, str]:
    return ("--url", f"http://127.0.0.1:{shared.port}")


@pytest.fixture(params=["url", "socket"])
def engine(request: pytest.FixtureRequest, shared: Served, url: tuple[str, str]) -> tuple[str, str]:
    """The options that name the engine, by either of its addresses."""
    return url if request.param == "url" else ("--engine", shared.ready["admin"])


def test_a_model_is_called_with_json_files_and_standard_input(engine: tuple[str, str], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1, 2]], np.float32))
    (tmp_path / "b.json").write_text("[[3, 4]]")
    ran = run("infer", "sum", *engine, "-i", f"a=@{tmp_path}/a.npy", "-i", f"b=@{tmp_path}/b.json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "total  FP32 [1,2]\n[[4., 6.]]\ndifference  FP32 [1,2]\n[[-2., -2.]]\n"
    ran = run("infer", "echo_fp32", *engine, "-i", "@-", stdin=b"[[5]]")
    assert ran.out == "output  FP32 [1,1]\n[[5.]]\n"


@pytest.mark.parametrize(
    ("model", "value", "shown"),
    [("echo_bf16", "[[1.5]]", [[1.5]]), ("echo_bool", "[[true]]", [[True]]), ("echo_bytes", '[["é"]]', [["é"]])],
)
def test_every_datatype_goes_there_and_back(engine: tuple[str, str], model: str, value: str, shown: object) -> None:
    (output,) = json.loads(run("infer", model, *engine, "-i", value, "--json").out)["outputs"]
    assert (output["name"], output["data"]) == ("output", shown)


def test_an_output_goes_to_a_file_and_from_there_to_an_input(engine: tuple[str, str], tmp_path: Path) -> None:
    file = f"@{tmp_path}/out.npy"
    ran = run("infer", "echo_bf16", *engine, "-i", "[[1.5, 2]]", "-o", file)
    assert (ran.code, ran.out) == (0, "")
    assert run("infer", "echo_bf16", *engine, "-i", file).out == "output  BF16 [1,2]\n[[1.5, 2]]\n"
    ran = run("infer", "sum", *engine, "-i", "a=[[1]]", "-i", "b=[[1]]", "-o", "total")
    assert ran.out == "total  FP32 [1,1]\n[[2.]]\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("infer", "nobody", "-i", "x=1"), 1, 'no model "nobody"'),
        (("infer", "echo_fp32", "--version", "9", "-i", "[[1]]"), 1, "version"),
        (("infer", "echo_fp32", "-i", "[[1]]", "-o", "nothing"), 1, '"nothing"'),
        (("infer", "echo_fp32", "-i", "[1]"), 2, "its first axis is missing; write [[1]]"),
        (("infer", "echo_fp32"), 2, 'no value for "x"'),
        (("models", "ready", "nobody"), 1, 'no model "nobody"'),
        (("models", "show", "nobody"), 1, 'no model "nobody"'),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_code(
    engine: tuple[str, str], words: tuple[str, ...], code: int, message: str
) -> None:
    ran = run(*words, *engine)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("samovar: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_models_are_listed_shown_and_ready(url: tuple[str, str]) -> None:
    lines = [line.split() for line in run("models", "list", *url).out.splitlines()]
    assert lines[0] == ["name", "version", "state", "cause"]
    assert ["sum", "1", "ready"] in lines
    listed = json.loads(run("models", "list", *url, "--json").out)
    assert {"name": "sum", "version": "1", "state": "ready", "cause": None} in listed
    shown = run("models", "show", "sum", *url).out
    assert shown.startswith("sum version 1 is ready\n")
    assert ["inputs", "a", "FP32", "[-1,-1]"] in [line.split() for line in shown.splitlines()]
    assert run("models", "ready", *url).out == "the engine is ready\n"
    assert run("models", "ready", "sum", "--version", "1", *url).code == 0


def test_the_admin_socket_tells_more(shared: Served) -> None:
    words = ("--engine", shared.ready["admin"])
    lines = [line.split() for line in run("models", "list", *words).out.splitlines()]
    assert lines[0] == ["name", "version", "state", "runtime", "batch", "instances", "cause"]
    assert ["sum", "1", "ready", "python", "64", "1", "of", "1"] in lines
    shown = [line.split() for line in run("models", "show", "sum", *words).out.splitlines()]
    assert ["inputs", "a", "FP32", "[batch,-1]"] in shown
    assert any(line[:1] == ["source"] and line[1].endswith("sum.py:Sum") for line in shown)
    (instances,) = [line for line in shown if line[:1] == ["instances"]]
    assert int(instances[-1].rstrip(")")) in shared.workers()
    assert "ready" in [line[3] for line in shown if line[2:3] == ["ago"]]


def test_control_over_http_must_be_allowed(url: tuple[str, str]) -> None:
    ran = run("models", "load", "sum", *url)
    assert (ran.code, ran.out) == (1, "")
    assert "--control explicit" in ran.err


def test_the_only_engine_needs_no_name(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    served = serve("sum.py", "loadfail.py", environment={"XDG_RUNTIME_DIR": str(tmp_path)})
    assert run("models", "ready", "sum").code == 0
    assert run("infer", "sum", "-i", "a=[[1]]", "-i", "b=[[2]]", "-o", "total").out == "total  FP32 [1,1]\n[[3.]]\n"
    assert run("models", "unload", "sum").code == 0
    assert run("models", "load", "sum").code == 0
    ran = run("models", "load", "loadfail")
    assert (ran.code, ran.out) == (1, "")
    for words in ("traceback:", "RuntimeError: the weights are not there", "  loadfail line 59"):
        assert words in ran.err
    (found,) = json.loads(run("doctor", "--json").out)["engines"]
    assert (found["pid"], found["url"]) == (served.pid, f"http://127.0.0.1:{served.port}")


def test_models_are_loaded_and_unloaded(serve: Serve) -> None:
    served = serve("sum.py", options=["--control", "explicit"])
    url = ("--url", f"http://127.0.0.1:{served.port}")
    assert run("models", "unload", "sum", *url).out.startswith("sum is unloaded after ")
    assert run("models", "ready", "sum", *url).code == 1
    ran = run("models", "load", "sum", *url)
    assert ran.out.startswith("sum is ready after ")
    assert ran.out.endswith(": version 1\n")


def test_where_no_engine_is_the_cure_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    ran = run("models", "list")
    assert (ran.code, ran.out) == (3, "")
    assert "start one with `samovar serve TARGET`" in ran.err
    ran = run("models", "list", "--url", "here")
    assert (ran.code, ran.out) == (2, "")
    ran = run("models", "list", "--url", "http://here", "--engine", "1")
    assert (ran.code, ran.err) == (2, "samovar: --url and --engine both name an engine; give one of them\n")


def test_ctrl_c_ends_quietly_and_gives_the_terminal_back(gated: Begin) -> None:
    begun = gated("Narrow")
    url = f"http://127.0.0.1:{begun.served.port}"
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "samovar", "infer", "narrow", "--url", url, "-i", "[[-1]]"]
    with os.fdopen(terminal, "rb", buffering=0) as shown:
        environment = {**os.environ, "TERM": "xterm"}
        with subprocess.Popen(command, stdout=end, stderr=end, env=environment) as process:
            os.close(end)
            begun.calls.append(begun.gate.accept()[0])
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        output = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody holds its other end
            while part := shown.read(4096):
                output += part
    assert b"waiting for narrow ..." in output
    assert b"Traceback" not in output
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")  # the cursor is back


def test_the_lines_that_inspect_prints_work_as_they_are(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    models.scale(tmp_path / "scale.onnx")
    for target in (str(tmp_path / "scale.onnx"), str(APPS / "sum.py")):
        lines = run("inspect", target).out.splitlines()
        calls = [line.removeprefix("call").strip() for line in lines if line.startswith("call")]
        first = next(number for number, line in enumerate(lines) if line.startswith("python"))
        program = "\n".join(line.removeprefix("python").strip() for line in lines[first:])
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        served = serve(target, environment={"XDG_RUNTIME_DIR": str(tmp_path)})
        for call in calls:
            ran = run(*shlex.split(call)[1:])
            assert (ran.code, ran.err) == (0, "")
        assert served.stop() == 0
