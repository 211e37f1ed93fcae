"""A file is described by a process of its own, which may do what it likes."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import models
from commands import run
from samovar.runtimes import Question, describe
from serving import ended

SCALE = """
@samovar.model
class Scale:
    def predict(self, x: Float32[np.ndarray, "batch 2"]) -> Float32[np.ndarray, "batch 2"]:
        return x
"""


@pytest.fixture
def scale(program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    file = program(SCALE + "print('imported')\n")
    monkeypatch.chdir(file.parent)
    return file


def test_it_tells_the_signature_and_how_to_call(scale: Path) -> None:
    ran = run("inspect", scale.name)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == "scale version 1  python, batches of up to 64"
    assert [line.split() for line in lines[2:4]] == [
        ["inputs", "x", "FP32", "[batch,2]"],
        ["outputs", "output", "FP32", "[batch,2]"],
    ]
    call = next(line for line in lines if line.startswith("call"))
    assert shlex.split(call)[1:] == ["samovar", "infer", "scale", "--input", "x=[[0.5, 0.5]]"]
    assert f'model = samovar.load("{scale.name}:Scale")' in ran.out


def test_json_is_alone_on_standard_output(scale: Path) -> None:
    (answer,) = json.loads(run("inspect", "--json", str(scale)).out)
    assert (answer["path"], answer["cause"]) == (str(scale), None)
    assert [(model["name"], model["batch_axis"]) for model in answer["models"]] == [("scale", True)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("import os; os._exit(3)", "ended its process with exit code 3"),
        ("import os; os.abort()", "ended its process by SIGABRT"),
        ("raise SystemExit(0)", "SystemExit"),
        ("", "has no model"),
    ],
)
def test_a_file_that_breaks_is_told_and_breaks_nothing(program: Callable[..., Path], text: str, message: str) -> None:
    file = program(text)
    ran = run("inspect", str(file))
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert "samovar/cli" not in ran.err


def test_a_folder_has_all_its_models_and_all_its_faults(program: Callable[..., Path], tmp_path: Path) -> None:
    for model, text in (("good", SCALE), ("bad", "1 / 0"), ("worse", "import os; os._exit(3)")):
        folder = tmp_path / "repository" / model / "1"
        folder.mkdir(parents=True)
        program(text).rename(folder / "model.py")
    (tmp_path / "repository" / "empty" / "1").mkdir(parents=True)
    ran = run("inspect", str(tmp_path / "repository"))
    assert ran.code == 2
    assert ran.out.startswith("good version 1  python")
    for fault in ("ZeroDivisionError", "exit code 3", "has no model file"):
        assert fault in ran.err


def test_of_several_versions_each_is_called_by_its_own(program: Callable[..., Path], tmp_path: Path) -> None:
    for version in ("1", "blue"):
        folder = tmp_path / "repository" / "scale" / version
        folder.mkdir(parents=True)
        program(SCALE).rename(folder / "model.py")
    shown = run("inspect", str(tmp_path / "repository")).out
    for version in ("1", "blue"):
        assert f"samovar infer scale --version {version} --input " in shown
        assert f"/v2/models/scale/versions/{version}/infer " in shown


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    ran = run("inspect", str(tmp_path))
    assert (ran.code, ran.out) == (2, "")
    assert "has no models" in ran.err


def test_what_a_file_starts_does_not_outlive_the_question(program: Callable[..., Path], tmp_path: Path) -> None:
    note = tmp_path / "pid"
    starts = f"""
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(note)!r}, "w").write(str(child.pid))
    """
    ran = run("inspect", str(program(starts)))
    assert (ran.code, ran.out) == (2, "")
    assert ended(int(note.read_text()), 10.0)


def test_a_long_answer_arrives_whole(program: Callable[..., Path]) -> None:
    fields = "\n".join(f"    field_{number}: Float32[np.ndarray, 'batch 2']" for number in range(1_000))
    file = program(f"""
class Many(NamedTuple):
{fields}

@samovar.model
class Wide:
    def predict(self, x: Float32[np.ndarray, "batch 2"]) -> Many:
        return Many(*[x] * 1000)
""")
    (answer,) = json.loads(run("inspect", "--json", str(file)).out)
    assert len(answer["models"][0]["outputs"]) == 1_000


SERVICE = """
@samovar.service
class Plates:
    scale = samovar.use(Scale)

    @samovar.api
    async def read(self, x: float) -> float:
        return x
"""


def test_a_service_is_shown_by_its_addresses(program: Callable[..., Path]) -> None:
    ran = run("inspect", str(program(SCALE + SERVICE)))
    assert ran.code == 0
    lines = ran.out.splitlines()
    start = lines.index("plates version 1  service, uses scale")
    assert [line.split() for line in lines[start + 2 : start + 4]] == [
        ["POST", "/plates/read"],
        ["GET", "/plates/docs"],
    ]
    assert shlex.split(lines[-1])[:3] == ["call", "curl", "http://127.0.0.1:8000/plates/read"]


def test_a_sample_is_a_request_and_the_line_that_sends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models.sums(tmp_path / "sums.onnx")
    ran = run("inspect", "sums.onnx", "--sample", "a request.json")
    assert ran.code == 0, ran.err
    request = json.loads((tmp_path / "a request.json").read_text())
    assert [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in request["inputs"]] == [
        ("a", "FP32", [1, 3]),
        ("b", "FP32", [1, 3]),
    ]
    numbers = [number for tensor in request["inputs"] for number in tensor["data"]]
    assert len(set(numbers)) == 6
    assert all(0 <= number < 1 for number in numbers)
    curl = next(line for line in ran.out.splitlines() if line.strip().startswith("curl"))
    assert shlex.split(curl)[-2:] == ["-d", "@a request.json"]
    run("inspect", "sums.onnx", "--sample", "again.json", "--json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "a request.json").read_text()


def test_a_sample_that_cannot_be_is_told(tmp_path: Path, program: Callable[..., Path]) -> None:
    def told(target: Path, file: str) -> str:
        ran = run("inspect", str(target), "--sample", str(tmp_path / file))
        assert ran.code == 2
        assert not (tmp_path / file).exists()
        return ran.err

    half = models.echo(tmp_path / "half.onnx", "FLOAT16")
    assert 'input "x" of model "half" is FP16, which JSON does not carry' in told(half, "a.json")
    assert "is written as JSON; name it" in told(half, "a.npz")
    assert "cannot be written: No such file or directory" in told(models.sums(tmp_path / "s.onnx"), "none/a.json")
    services = program(SCALE + SERVICE)
    assert "--sample writes a request of one model, and" in told(services, "a.json")
    assert "has 2 models; name one of them" in told(services, "a.json")
    assert 'has the service "plates"; its page /plates/docs has samples' in told(Path(f"{services}:Plates"), "a.json")


def test_what_a_file_says_of_itself_is_shown(tmp_path: Path) -> None:
    path = models.scale(tmp_path / "double.onnx")
    (answer,) = json.loads(run("inspect", "--json", str(path)).out)
    assert answer["models"][0]["source"]["read_from"] == "the graph"
    assert "\nread from the graph\n" in run("inspect", str(path)).out


def test_labels_and_columns_are_shown_and_many_are_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = models.scale(tmp_path / "double.onnx")
    (model,) = describe(Question(path))
    source = {"labels": {"output": [f"label {number}" for number in range(12)]}, "columns": ["age", "fare"]}
    model["source"] |= {**source, "note": "a hint"}
    monkeypatch.setattr("samovar.cli.inspection.ask", lambda question: {"models": [model], "cause": None})
    lines = run("inspect", str(path)).out.splitlines()
    shown = ", ".join(f"label {number}" for number in range(10))
    assert f"labels    output: {shown}, ... (12)" in lines
    assert {"columns   age, fare", "a hint"} <= set(lines)
    (answer,) = json.loads(run("inspect", "--json", str(path)).out)
    assert answer["models"][0]["source"].items() >= source.items()
