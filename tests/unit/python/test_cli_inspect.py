"""A file is described by a process of its own, which may do what it likes."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import run
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
