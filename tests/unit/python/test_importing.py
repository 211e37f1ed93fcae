"""A user's file is imported once, under its own name, and its faults are told as its own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from samovar.errors import TargetError, describe_failure
from samovar.runtimes.python.importing import import_file

Program = Callable[..., Path]


def test_a_file_is_run_once_and_finds_its_neighbours(program: Program) -> None:
    program("value = 3", "a_neighbour.py")
    path = program("import a_neighbour\nruns = [a_neighbour.value]\n", "a_program.py")
    module = import_file(path)
    assert module.runs == [3]
    assert import_file(path) is module
    assert sys.modules["a_program"] is module


@pytest.mark.parametrize("name", ["queue.py", "zipapp.py", "pytest.py"])
def test_a_file_named_like_another_module_does_not_replace_it(program: Program, name: str) -> None:
    before = sys.modules.get(name[:-3])
    path = program("served = True", name)
    assert import_file(path).served
    assert import_file(path) is import_file(path)
    assert sys.modules.get(name[:-3]) is before


def test_an_exception_keeps_only_the_users_frames(program: Program) -> None:
    path = program("def f():\n    raise KeyError('weights')\nf()\n", preamble="")
    with pytest.raises(TargetError) as caught:
        import_file(path)
    failure = describe_failure(caught.value)
    assert failure["message"] == "served_program.py cannot be imported: KeyError: 'weights'"
    assert failure["exception"] == "KeyError"
    assert failure["next_step"] == "correct served_program.py"
    assert str(failure["traceback"]).count("File ") == 2
    assert "importlib" not in str(failure["traceback"])
    assert "served_program" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module_anywhere.part", "install no_such_module_anywhere in the environment of"),
        ("raise SystemExit(3)", 'guard what a script does with: if __name__ == "__main__":'),
        ("from . import other", "import its neighbours by name, without leading dots"),
        ("x = = 1", "cannot be imported: SyntaxError"),
    ],
)
def test_the_cure_fits_the_exception(program: Program, text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        import_file(program(text, preamble=""))
    assert message in str(caught.value)
