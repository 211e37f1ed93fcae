"""A user's file is imported once, under its own name, and its faults are told as its own."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from samovar.errors import ConfigError, TargetError, describe_failure
from samovar.runtimes.python.importing import apart, import_file
from samovar.server.facade import _target_of

Program = Callable[..., Path]


def test_a_file_is_run_once_and_finds_its_neighbours(program: Program) -> None:
    program("value = 3", "a_neighbour.py")
    path = program("import a_neighbour\nruns = [a_neighbour.value]\n", "a_program.py")
    module = import_file(path)
    assert module.runs == [3]
    assert import_file(path) is module
    assert sys.modules["a_program"] is module


def test_a_file_changed_within_a_second_is_run_as_it_is_now(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = program("factor = 2", "a_changed_program.py")
    assert import_file(path).factor == 2
    assert not (path.parent / "__pycache__").exists()
    before = path.stat()
    path.write_text(path.read_text().replace("factor = 2", "factor = 4"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.delitem(sys.modules, "a_changed_program")
    assert import_file(path).factor == 4


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
    assert failure["next_step"] == "see served_program.py, line 2"
    assert str(failure["traceback"]).count("File ") == 2
    assert "importlib" not in str(failure["traceback"])
    assert "served_program" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module_anywhere.part", "install no_such_module_anywhere in the environment of"),
        ("raise SystemExit(3)", 'guard what a script does with: if __name__ == "__main__":'),
        ("from . import other", "import its neighbours by name, without leading dots"),
        (
            "\nx = = 1",
            "cannot be imported: SyntaxError: invalid syntax (served_program.py, line 2); see served_program.py, ",
        ),
        (
            "import numpy\nfrom pydantic import BaseModel\nclass M(BaseModel):\n    x: numpy.ndarray\n",
            "; a dataclass or NamedTuple may hold arrays and images, a pydantic model may not: see served_program.py, ",
        ),
    ],
)
def test_the_cure_fits_the_exception(program: Program, text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        import_file(program(text, preamble=""))
    assert message in str(caught.value)


def test_an_error_of_a_decorator_passes_with_its_own_cure(program: Program) -> None:
    with pytest.raises(ConfigError) as caught:
        import_file(program("@samovar.model(max_batchsize=3)\nclass M: ...\n"))
    assert caught.value.next_step == 'did you mean "max_batch_size"?'
    assert "served_program" not in sys.modules


@pytest.fixture
def package(tmp_path: Path, program: Program) -> Path:
    """A package with a package in it, whose modules import each other in both ways."""
    inner = tmp_path / "outer_package" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").write_text("name = 'outer'\n")
    (inner / "__init__.py").write_text("from .weights import value\n")
    (inner / "weights.py").write_text("value = 3\n")
    (inner / "served.py").write_text(
        "from .. import name\nfrom . import weights\nfrom outer_package.inner.weights import value\n\n\nclass M: ...\n"
    )
    return inner


def test_a_file_in_a_package_is_imported_as_its_module(package: Path) -> None:
    module = import_file(package / "served.py")
    assert (module.__name__, module.name, module.value) == ("outer_package.inner.served", "outer", 3)
    assert module.weights is sys.modules["outer_package.inner.weights"]
    assert import_file(package / "served.py") is module
    assert import_file(package / "__init__.py") is sys.modules["outer_package.inner"]


def test_a_class_of_a_module_in_a_package_is_found_by_its_file(package: Path) -> None:
    module = import_file(package / "served.py")
    target = _target_of(module.M)
    assert (target.path, target.class_name) == (package / "served.py", "M")
    assert import_file(target.path) is module


def test_a_package_named_like_another_does_not_replace_it(tmp_path: Path, program: Program) -> None:
    for name in ("queue", "pytest"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / f"in_{name}.py").write_text("served = True\n")
        before = sys.modules.get(name)
        assert import_file(folder / f"in_{name}.py").served
        assert sys.modules.get(name) is before


def test_a_package_that_another_hides_is_named(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder / "hiding_package").mkdir(parents=True)
        for name in ("__init__.py", "m.py"):
            (tmp_path / folder / "hiding_package" / name).touch()
        monkeypatch.syspath_prepend(tmp_path / folder)
    with pytest.raises(TargetError, match=r"is module hiding_package\.m of its package, but Python finds .*/second/"):
        import_file(tmp_path / "first" / "hiding_package" / "m.py")


def test_a_file_that_is_gone_is_to_be_put_back_and_one_that_it_reads_is_its_own_matter(program: Program) -> None:
    path = program("open('no-such-weights.bin')", "a_reading_program.py")
    with pytest.raises(TargetError, match=r"cannot be imported: FileNotFoundError: .*no-such-weights\.bin"):
        import_file(path)
    path.unlink()
    with pytest.raises(TargetError, match=r"^a_reading_program\.py is gone; put it back$"):
        import_file(path)


def test_files_that_are_kept_apart_have_neighbours_of_their_own(program: Program, tmp_path: Path) -> None:
    found, path_before = [], list(sys.path)
    for number in range(3):
        folder = tmp_path / f"model{number}"
        package = folder / "near"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"from near.inner import value\nvalue += {number}\n")
        (package / "inner.py").write_text(f"value = {number}\n")
        (folder / "model.py").write_text("import colorsys\nimport near\ndef get(): return near.value\n")
        with apart(folder / "model.py"):
            found.append(import_file(folder / "model.py"))
            assert sys.modules["near"].value == 2 * number
    assert [module.get() for module in found] == [0, 2, 4]
    assert len({id(module) for module in found}) == 3
    assert sys.path == path_before
    assert not {"model", "near", "near.inner"} & sys.modules.keys()
    assert "colorsys" in sys.modules


def test_a_file_of_a_package_is_kept_apart_with_its_package(tmp_path: Path) -> None:
    (tmp_path / "a_shared_package").mkdir()
    (tmp_path / "a_shared_package" / "__init__.py").write_text("")
    (tmp_path / "a_shared_package" / "near.py").write_text("value = 1")
    path = tmp_path / "a_shared_package" / "model.py"
    path.write_text("from .near import value")
    for value in (1, 22):
        (path.with_name("near.py")).write_text(f"value = {value}")
        with apart(path):
            assert import_file(path).value == value
        assert not [name for name in sys.modules if name.startswith("a_shared_package")]


def test_an_import_meanwhile_does_not_disturb_what_is_kept_apart(tmp_path: Path) -> None:
    class Lazy(ModuleType):
        """Imports when it is looked at; a thread of a library may do so at any time."""

        def __getattr__(self, name: str) -> object:
            sys.modules[f"a_late_module_{len(sys.modules)}"] = ModuleType("late")
            raise AttributeError(name)

    try:
        with apart(tmp_path / "model.onnx"):
            sys.modules["a_lazy_module"] = Lazy("a_lazy_module")
    finally:
        for name in [name for name in sys.modules if name.startswith("a_l") and "module" in name]:
            del sys.modules[name]
