"""What the command line may name."""

from pathlib import Path

import pytest

from samovar.errors import TargetError
from samovar.repository.targets import Target, parse_target


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("app.py", "plates.py", "weights.bin"):
        (tmp_path / name).touch()
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_and_a_class_of_it(folder: Path) -> None:
    assert parse_target("app.py") == Target(folder / "app.py")
    assert parse_target("./app.py:Stn") == Target(folder / "app.py", "Stn")
    assert parse_target(str(folder / "app.py")).question("Stn")["class_name"] == "Stn"


def test_a_colon_may_be_part_of_a_path(folder: Path) -> None:
    (folder / "a:b.py").touch()
    assert parse_target("a:b.py") == Target(folder / "a:b.py")
    assert parse_target("a:b.py:Stn") == Target(folder / "a:b.py", "Stn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ap.py", 'target "ap.py" does not exist; Python files there: app.py'),
        ("ap.py:Stn", 'target "ap.py" does not exist; Python files there: app.py'),
        ("zzz", 'target "zzz" does not exist; Python files there: app.py, plates.py'),
        ("none/app.py", 'target "none/app.py" does not exist; there is no folder "none"'),
        ("models/app.py", 'target "models/app.py" does not exist; there are no Python files in "{folder}/models"'),
        ("models", 'target "models" is a folder; name a Python file (.py) in it'),
        (
            "weights.bin",
            "weights.bin has no format that is served; give a Python file (.py) with decorated classes",
        ),
        ("app.py:a b", 'target "app.py:a b" names the class "a b"; write file.py or file.py:Class'),
        ("app.py:", 'target "app.py:" names the class ""; write file.py or file.py:Class'),
    ],
)
def test_what_cannot_be_a_target_is_told(folder: Path, text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(text)
    assert str(caught.value) == message.format(folder=folder)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Target(Path("/a/plates.py")), "plates"),
        (Target(Path("/a/plates.py"), "LprNet"), "lpr_net"),
        (Target(Path("/a/v2.py")), "target_v2"),
        (Target(Path("/a/größe x.py")), "gr__e_x"),
        (Target(Path("/a/-x.py")), "target_-x"),
    ],
)
def test_a_target_without_description_has_a_name_that_fits(target: Target, name: str) -> None:
    assert target.placeholder == name
