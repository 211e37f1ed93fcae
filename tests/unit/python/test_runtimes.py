"""The contract of formats: which runtime a path has, what is trusted, what a runtime's own options take."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from samovar import runtimes
from samovar.config import Configuration, configure
from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError, UnsafeFormatError
from samovar.repository.settings import question_of
from samovar.repository.sources import Source, all_sources
from samovar.repository.targets import Target, parse_target
from samovar.runtimes import About, Question, Sure, describe, is_model_folder, runtime_for, runtime_named
from samovar.runtimes.files import check_trust, imported, runtime_options
from samovar.runtimes.files import describe as description
from samovar.types import Signature

ABOUT = About("Fake models", extra="fake", recognised_by="its mark", signature_from="nothing", safety="safe")
NOTHING = Signature((), (), batch_axis=False)


@dataclass(frozen=True)
class Fake:
    """A runtime that knows files which begin with its `mark`, and folders with a file of that name."""

    name: str
    mark: str
    sure: Sure = Sure.CERTAIN
    suffix: str = ""
    looked: list[Path] | None = None

    ABOUT = ABOUT
    IMPORTS = ()

    def recognise(self, path: Path) -> Sure:
        if self.looked is not None:
            self.looked.append(path)
        is_its_own = (path / self.mark).is_file() if path.is_dir() else path.read_text().startswith(self.mark)
        if is_its_own:
            return self.sure
        return Sure.NAME if self.suffix and path.suffix == self.suffix else Sure.NO

    def inspect(self, question: Question) -> list[dict[str, Any]]:
        return [description(question, self.name, NOTHING, question.declared.options, ())]

    def load(self, spec: dict[str, Any]) -> Any:
        raise NotImplementedError


Register = Callable[..., None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Put these runtimes, with their suffixes, in the place of all that there are."""
    monkeypatch.setattr(runtimes, "_SUFFIXES", {})
    monkeypatch.setattr(runtimes, "_further", dict)

    def put(fake: Fake, *suffixes: str) -> None:
        module = ModuleType(f"samovar.runtimes.{fake.name}")
        for part in ("ABOUT", "IMPORTS", "recognise", "inspect", "load"):
            setattr(module, part, getattr(fake, part))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        runtimes._SUFFIXES[fake.name] = suffixes

    return put


def written(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def runtime_of(path: Path) -> str:
    (model,) = describe(Question(path))
    return str(model["runtime"])


def test_the_surest_wins_and_of_two_the_first(register: Register, tmp_path: Path) -> None:
    register(Fake("likely", "m", Sure.LIKELY), ".m")
    register(Fake("certain", "m"), ".m")
    register(Fake("as_certain", "m"), ".m")
    assert runtime_of(written(tmp_path / "a.m", "m")) == "certain"
    with pytest.raises(TargetError, match=r"^b.m has no format that is served: it is a text .*; give a "):
        runtime_for(written(tmp_path / "b.m", "something else"))


def test_a_suffix_is_asked_first_and_content_knows_a_file_of_another_name(register: Register, tmp_path: Path) -> None:
    looked: list[Path] = []
    register(Fake("usual", "m"), ".m")
    register(Fake("other", "o", looked=looked), ".o")
    assert runtime_of(written(tmp_path / "a.M", "m")) == "usual"
    assert looked == [], "a certain answer ends the search"
    assert runtime_of(written(tmp_path / "renamed.m", "o")) == "other"
    assert runtime_of(written(tmp_path / "unnamed", "o")) == "other"


def test_of_those_with_the_suffix_content_that_looks_so_says_more_than_the_name(
    register: Register, tmp_path: Path
) -> None:
    register(Fake("named", "n", suffix=".m"), ".m")
    register(Fake("likely", "l", Sure.LIKELY), ".m")
    assert runtime_of(written(tmp_path / "a.m", "l")) == "likely"
    assert runtime_of(written(tmp_path / "b.m", "what nobody knows")) == "named"


def test_a_name_stands_above_content_that_looks_so_and_below_what_is_certain(
    register: Register, tmp_path: Path
) -> None:
    register(Fake("named", "n", suffix=".m"), ".m")
    register(Fake("likely", "l", Sure.LIKELY), ".l")
    register(Fake("certain", "c"), ".c")
    assert runtime_of(written(tmp_path / "a.m", "what nobody knows")) == "named"
    assert runtime_of(written(tmp_path / "b.m", "l")) == "named"
    assert runtime_of(written(tmp_path / "b.x", "l")) == "likely"
    assert runtime_of(written(tmp_path / "c.m", "c")) == "certain"


def test_samovar_toml_stands_above_content(register: Register, tmp_path: Path) -> None:
    register(Fake("certain", "m"), ".m")
    register(Fake("wanted", "w"), ".w")
    written(tmp_path / "samovar.toml", 'runtime = "wanted"')
    (source,) = all_sources([parse_target(str(written(tmp_path / "a.m", "m")))])
    (model,) = describe(question_of(source, configure({}, {})))
    assert model["runtime"] == "wanted"
    (source,) = all_sources([parse_target(str(written(tmp_path / "unknown.bin")))])
    assert describe(question_of(source, configure({}, {})))[0]["runtime"] == "wanted"


def test_a_runtime_that_is_none_is_told_with_its_near_match(register: Register, tmp_path: Path) -> None:
    register(Fake("wanted", "w"), ".w")
    question = Question(written(tmp_path / "a.w"), declared=Declared(runtime="wantde"))
    with pytest.raises(ConfigError, match=r'^there is no runtime "wantde"; did you mean "wanted"\?$'):
        describe(question)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A package that has a format, and one that names a format of ours."""
    module = ModuleType("package_of_a_format")
    fake = Fake("further", "f")
    for part in ("ABOUT", "IMPORTS", "recognise", "inspect", "load"):
        setattr(module, part, getattr(fake, part))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    points = [EntryPoint(name, module.__name__, "samovar.runtimes") for name in ("further", "onnx")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points if group == "samovar.runtimes" else [])
    runtimes._further.cache_clear()
    yield
    runtimes._further.cache_clear()


@pytest.mark.usefixtures("package")
def test_a_package_adds_a_format_and_replaces_none(tmp_path: Path) -> None:
    assert runtime_of(written(tmp_path / "a.xyz", "f")) == "further"
    assert runtime_named("further").ABOUT == ABOUT
    assert runtime_named("onnx").ABOUT.title == "ONNX models"


def found(root: Path) -> dict[tuple[str, str], str]:
    """The sources of a folder: their places, or their faults, by model and version."""
    return {
        source.key: str(source.fault or source.path.relative_to(root))
        for source in all_sources([parse_target(str(root))])
    }


def test_folders_are_models_at_each_place_of_a_repository(register: Register, tmp_path: Path) -> None:
    register(Fake("folder", "mark"), "/")
    register(Fake("file", "f"), ".f")
    for place in ("numbered/1", "numbered/12", "whole", "triton/1/model.savedmodel", "single/model.savedmodel"):
        written(tmp_path / place / "mark")
        written(tmp_path / place / "variables" / "7" / "model.f", "f")
    written(tmp_path / "files" / "1" / "model.f", "f")
    written(tmp_path / "papers" / "notes.txt")
    assert found(tmp_path) == {
        ("numbered", "1"): "numbered/1",
        ("numbered", "12"): "numbered/12",
        ("whole", "1"): "whole",
        ("triton", "1"): "triton/1/model.savedmodel",
        ("single", "1"): "single/model.savedmodel",
        ("files", "1"): "files/1/model.f",
    }
    assert is_model_folder(tmp_path / "whole")
    assert not is_model_folder(tmp_path / "numbered")
    assert not is_model_folder(tmp_path / "files" / "1" / "model.f")


@pytest.mark.parametrize(
    ("place", "name", "version"),
    [
        ("whole", "whole", "1"),
        ("numbered/3", "numbered", "3"),
        ("triton/2/model.savedmodel", "triton", "2"),
        ("single/model.savedmodel", "single", "1"),
        ("net.savedmodel", "net", "1"),
    ],
)
def test_a_folder_that_is_named_has_the_name_of_its_place(
    register: Register, tmp_path: Path, place: str, name: str, version: str
) -> None:
    register(Fake("folder", "mark"), "/")
    path = written(tmp_path / place / "mark").parent
    (source,) = all_sources([parse_target(str(path))])
    assert (source.key, source.path, source.fault) == ((name, version), path, None)
    (model,) = describe(question_of(source, configure({}, {})))
    assert (model["name"], model["version"], model["runtime"]) == (name, version, "folder")


def test_the_folder_of_one_numbered_model_has_its_versions(register: Register, tmp_path: Path) -> None:
    register(Fake("folder", "mark"), "/")
    for version in ("1", "2"):
        written(tmp_path / "numbered" / version / "mark")
    assert parse_target(str(tmp_path / "numbered")).kind == "model"
    assert found(tmp_path / "numbered") == {("numbered", "1"): "1", ("numbered", "2"): "2"}


def trusted(name: str, text: str, folder: Path, *trust: str) -> bool | None:
    """What is trusted of net.m, beside which samovar.toml has this text, in an engine with `--trust`."""
    written(folder / "samovar.toml", text)
    source = Source(Target(folder / "net.m"), folder / "net.m", name=name, version="1")
    engine: Configuration = configure({"trust": list(trust)} if trust else {}, {}, folder=folder / "elsewhere")
    return question_of(source, engine).declared.trust


def test_trust_is_said_by_the_command_line_or_by_samovar_toml(tmp_path: Path) -> None:
    assert trusted("net", "", tmp_path) is None
    assert trusted("net", "trust = true", tmp_path)
    assert trusted("net", "trust = false", tmp_path) is False
    assert trusted("net", "", tmp_path, "net")
    assert trusted("net", "", tmp_path, "other") is None
    assert trusted("net", "", tmp_path, "other", "*")
    assert trusted("net", "trust = false", tmp_path, "net"), "who starts the engine says it last"
    assert trusted("net", 'trust = ["net"]', tmp_path) is None, "that is another engine's"
    assert trusted("net", "[models.other]\ntrust = true", tmp_path) is None


def test_a_program_of_the_user_is_no_file_to_be_trusted(tmp_path: Path) -> None:
    source = Source(Target(tmp_path / "app.py"), tmp_path / "app.py")
    assert question_of(source, configure({"trust": ["*"]}, {})).declared == Declared()


def test_a_file_that_runs_code_is_refused_with_both_cures(tmp_path: Path) -> None:
    question = Question(tmp_path / "net.pkl", name="net", declared=Declared(trust=False))
    with pytest.raises(UnsafeFormatError) as caught:
        check_trust(question, "a Python pickle", "save it with skops.io.dump")
    assert str(caught.value) == (
        "unsafe_format: net.pkl is a Python pickle, which can run any code when it is loaded; save it with "
        "skops.io.dump; or, if you trust who made it, start with --trust net, or write trust = true in samovar.toml"
    )
    check_trust(replace(question, declared=Declared(trust=True)), "a Python pickle", "")


DEFAULTS = {"level": ("all", "basic", "off"), "rate": 1.0, "count": 2, "is_fast": False, "cache": None}


def options(**given: Any) -> dict[str, Any]:
    return runtime_options(Question(Path("net.m"), declared=Declared(runtime_options=given)), DEFAULTS)


def test_options_of_a_runtime_have_defaults_and_types() -> None:
    assert options() == {"level": "all", "rate": 1.0, "count": 2, "is_fast": False, "cache": None}
    given = {"level": "off", "rate": 2, "count": 3, "is_fast": True, "cache": "/x"}
    assert options(**given) == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lvl": 1}, 'unknown runtime option "lvl" of net.m; its runtime has level, rate, count, is_fast, cache'),
        ({"level": "most"}, "runtime option \"level\" of net.m is 'most'; it wants one of all, basic, off"),
        ({"count": True}, 'runtime option "count" of net.m is True; it wants a int'),
        ({"count": 1.5}, 'runtime option "count" of net.m is 1.5; it wants a int'),
        ({"rate": True}, 'runtime option "rate" of net.m is True; it wants a float'),
        ({"is_fast": 1}, 'runtime option "is_fast" of net.m is 1; it wants a bool'),
        ({"cache": 3}, 'runtime option "cache" of net.m is 3; it wants a str'),
    ],
)
def test_an_option_that_does_not_fit_is_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**given)
    assert str(caught.value) == message


def test_a_runtime_without_options_says_so() -> None:
    with pytest.raises(ConfigError, match=r'unknown runtime option "x" of net.m; its runtime has none$'):
        runtime_options(Question(Path("net.m"), declared=Declared(runtime_options={"x": 1})), {})


def test_a_missing_package_names_the_extra_and_a_broken_one_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TargetError) as caught:
        imported("nowhere_to_be_found.part", ABOUT)
    assert str(caught.value) == (
        "Fake models need nowhere_to_be_found, which cannot be imported: No module named 'nowhere_to_be_found'; "
        "run: pip install 'samovar[fake]'"
    )
    assert caught.value.__cause__ is None
    written(tmp_path / "broken_package.py", "import nowhere_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TargetError, match="No module named 'nowhere_to_be_found'") as caught:
        imported("broken_package", ABOUT)
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_model_of_a_file_has_no_classes_and_runs_one_call(tmp_path: Path) -> None:
    question = Question(tmp_path / "net.m", class_name="Net")
    with pytest.raises(TargetError, match=r"^net.m:Net names a class, but net.m is one model; name the file alone$"):
        description(question, "fake", NOTHING, {}, ())
    with pytest.raises(ConfigError, match=r"^concurrency = 2 is set for net.m, which runs one call at a time"):
        description(Question(tmp_path / "net.m"), "fake", NOTHING, {"concurrency": 2}, ())
