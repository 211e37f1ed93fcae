"""`samovar.use`: where it may stand, what it takes, and what a worker tells of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import samovar
from samovar.errors import SamovarError, TargetError
from samovar.runtimes import Question
from samovar.runtimes.python import inspect

Program = Callable[..., Path]

PREDICT = 'def predict(self, x: Float32[np.ndarray, "batch 2"]) -> Float32[np.ndarray, "batch 2"]: ...'
STN = f"@samovar.model(version=3)\nclass Stn:\n    {PREDICT}\n"


def user(use: str, before: str = STN) -> str:
    return f"{before}\n@samovar.model\nclass M:\n    h = samovar.use({use})\n    {PREDICT}\n"


def uses(path: Path, name: str = "M") -> Any:
    (model,) = inspect(Question(path, name))
    return model["source"]["uses"]


def named(name: str, version: str | None = None) -> dict[str, Any]:
    return {"kind": "name", "path": None, "class": None, "name": name, "version": version}


def at(path: Path, cls: str | None = None) -> dict[str, Any]:
    return {"kind": "file", "path": str(path), "class": cls, "name": None, "version": None}


def test_a_class_is_used_by_its_file_and_in_its_own_version(program: Program) -> None:
    path = program(user("Stn"))
    assert uses(path) == {"h": {"kind": "class", "path": str(path), "class": "Stn", "name": "stn", "version": "3"}}
    assert uses(path, "Stn") == {}


def test_a_class_of_another_file_is_used_there(program: Program, tmp_path: Path) -> None:
    program(STN, "straightening.py")
    path = program(user("Stn", "from straightening import Stn"))
    assert uses(path)["h"]["path"] == str(tmp_path / "straightening.py")


@pytest.mark.parametrize(
    ("use", "found"),
    [
        ('"stn"', lambda folder: named("stn")),
        ('"stn", version=2', lambda folder: named("stn", "2")),
        ('"plates.recognize"', lambda folder: named("plates.recognize")),
        ('"notes"', lambda folder: named("notes")),
        ('"stn.onnx"', lambda folder: at(folder / "stn.onnx")),
        ('"models/stn"', lambda folder: at(folder / "models" / "stn")),
        ('"/elsewhere/stn.onnx"', lambda folder: at(Path("/elsewhere/stn.onnx"))),
        ('"other.py:Other"', lambda folder: at(folder / "other.py", "Other")),
        ('"lprnet"', lambda folder: at(folder / "lprnet")),
        ('__import__("pathlib").Path("stn")', lambda folder: at(folder / "stn")),
    ],
)
def test_a_text_is_a_path_or_a_name(
    program: Program, tmp_path: Path, use: str, found: Callable[[Path], dict[str, Any]]
) -> None:
    (tmp_path / "lprnet" / "1").mkdir(parents=True)
    (tmp_path / "lprnet" / "1" / "model.onnx").touch()
    (tmp_path / "notes").mkdir()
    assert uses(program(user(use))) == {"h": found(tmp_path)}


def test_handles_are_inherited_and_bound_for_each_class_alone(program: Program) -> None:
    text = f"{STN}\nclass Base:\n    h = samovar.use(Stn)\n"
    text += "".join(f"@samovar.model\nclass {name}(Base):\n    {PREDICT}\n" for name in "AB")
    path = program(text)
    assert uses(path, "A").keys() == uses(path, "B").keys() == {"h"}


SERVICE = "@samovar.service\nclass Plates:\n    pass\n"
BAD: dict[str, tuple[str, str]] = {
    "outside a class": (
        f'{STN}\nh = samovar.use("stn")',
        (
            "samovar.use('stn') stands outside a class; write it into the body of a service or model class: "
            "name = samovar.use(...)"
        ),
    ),
    "in a method": (
        f"{STN}\ndef f():\n    return samovar.use(Stn)\nf()",
        (
            "samovar.use(Stn) stands outside a class; write it into the body of a service or model class: "
            "name = samovar.use(...)"
        ),
    ),
    "undecorated": (
        user("Plain", "class Plain: ..."),
        "samovar.use(Plain): Plain is no model; write @samovar.model above class Plain",
    ),
    "service": (
        user("Plates", SERVICE),
        (
            "samovar.use(Plates): Plates is a service, and services are called by clients alone; put what both need "
            'into a model, or name one of its methods that take tensors: samovar.use("plates.METHOD")'
        ),
    ),
    "number": (user("3"), "samovar.use(3) names no model; give a decorated class, a path, or a name"),
    "empty": (user('""'), "samovar.use('') names no model; give a decorated class, a path, or a name"),
    "version": (
        user('"stn", version=1.5'),
        'the version is 1.5, no text (in samovar.use); give one that the model has: version="2"',
    ),
    "class in a function": (
        user("make()", f"def make():\n    @samovar.model\n    class Inner:\n        {PREDICT}\n    return Inner"),
        (
            "class make.<locals>.Inner, which M uses, is not at the top of a file, where a worker of its own would "
            "find it; move it to the top of a file"
        ),
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_told_with_its_cure(program: Program, text: str, message: str) -> None:
    with pytest.raises(SamovarError) as caught:
        inspect(Question(program(text)))
    assert isinstance(caught.value, TargetError)
    assert str(caught.value) == message


def test_to_look_at_a_class_loads_nothing() -> None:
    class User:
        h = samovar.use("nowhere")

    assert User.h.predict is User().h.predict


def test_what_a_file_leaves_open_is_said_where_it_is_used(program: Program, tmp_path: Path) -> None:
    path = program(user('"stn.onnx", instances=2, batch_axis=True, inputs=[{"name": "x", "shape": ["batch", 2]}]'))
    declared = {"instances": 2, "inputs": [{"name": "x", "shape": ["batch", 2]}], "batch_axis": True}
    assert uses(path) == {"h": {**at(tmp_path / "stn.onnx"), "declared": declared}}


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("Stn, instances=2", 'M (h) sets "instances" of class Stn; samovar.use has settings for model files alone: '),
        ('"other.py:Other", trust=True', 'M (h) sets "trust" of a class of other.py; samovar.use has'),
        ('"stn", batch_axis=True', 'M (h) sets "batch_axis" of "stn", a model of another target; samovar.use has'),
        ('"stn.onnx", batchaxis=True', "unknown setting \"batchaxis\" in samovar.use('stn.onnx'); did you mean"),
        (
            '"stn.onnx", inputs=["x"]',
            "setting \"inputs\" in samovar.use('stn.onnx') is no list of tables; write inputs",
        ),
    ],
)
def test_settings_that_fit_nothing_are_told(program: Program, use: str, message: str) -> None:
    with pytest.raises(SamovarError) as caught:
        inspect(Question(program(user(use))))
    assert str(caught.value).startswith(message)
