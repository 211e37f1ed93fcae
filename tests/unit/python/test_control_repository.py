"""The control loop follows what is in folders: versions that come, change, go and fail."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samovar.errors import ConfigError, TargetError
from unit.python.fake_engine import CAUSE, FakeEngine, described, run


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    write(folder, "stn/1")
    return folder


def write(repository: Path, version: str, text: str = "") -> None:
    (repository / version).mkdir(parents=True, exist_ok=True)
    (repository / version / "model.py").write_text(text)


def loads(engine: FakeEngine, name: str, *before: Callable[[], Any]) -> None:
    """Have a client load a model again and again, each time after something was done to its folder."""
    engine.script = [{"kind": "load", "ticket": number, "name": name} for number in range(len(before))]
    left = list(before)
    started = engine.mark_started

    def act() -> None:
        if left:
            left.pop(0)()

    def mark_started() -> None:
        act()
        started()

    engine.mark_started = mark_started  # type: ignore[method-assign] # the first load comes after the start
    engine.on_reply = lambda *_: act()


def states(engine: FakeEngine) -> dict[tuple[str, str], str]:
    return {(version["name"], version["version"]): version["state"] for version in json.loads(engine.versions())}


def deployed(engine: FakeEngine) -> list[tuple[str, str]]:
    return [(spec["name"], spec["version"]) for spec in engine.deployed]


def test_every_version_of_a_folder_is_served_beside_files(engine: FakeEngine, repository: Path) -> None:
    write(repository, "stn/2")
    write(repository, "lprnet/1")
    engine.files = {"a.py": [described("one")]}
    assert run(engine, str(repository), "a.py") == 0
    assert set(states(engine)) == {("stn", "1"), ("stn", "2"), ("lprnet", "1"), ("one", "1")}
    asked = {(question["name"], question["version"]) for question in engine.questions}
    assert asked == {("stn", "1"), ("stn", "2"), ("lprnet", "1"), (None, None)}


def test_a_broken_model_stands_as_failed_and_the_others_serve(
    engine: FakeEngine, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repository, "lprnet/1", "broken")
    (repository / "bare/1").mkdir(parents=True)
    assert run(engine, str(repository)) == 0
    assert states(engine) == {("stn", "1"): "ready", ("lprnet", "1"): "failed", ("bare", "1"): "failed"}
    assert f'version folder "{repository}/bare/1" has no model file' in capsys.readouterr().out


def test_an_empty_folder_stops_the_start_unless_clients_may_load(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(TargetError, match=r"has no models; put the file of a model there as empty/NAME/1/model\.onnx"):
        run(engine, str(empty))
    loads(engine, "stn", lambda: write(empty, "stn/1"))
    assert run(engine, str(empty), control="explicit") == 0
    assert ("started",) in engine.calls
    assert engine.replies == {0: None}
    assert states(engine) == {("stn", "1"): "ready"}
    assert capsys.readouterr().out.startswith("samovar serves 0 of 0 models at http://127.0.0.1:4711\n")


def test_a_load_adds_what_is_new_and_leaves_what_did_not_change(engine: FakeEngine, repository: Path) -> None:
    loads(engine, "stn", lambda: write(repository, "stn/2"), lambda: None)
    assert run(engine, str(repository)) == 0
    assert engine.replies == {0: None, 1: None}
    assert deployed(engine) == [("stn", "1"), ("stn", "2")]


def test_a_load_takes_what_has_changed(engine: FakeEngine, repository: Path) -> None:
    write(repository, "stn/2")

    def settings() -> None:
        (repository / "stn/samovar.toml").write_text("instances = 3")

    loads(engine, "stn", lambda: write(repository, "stn/2", "changed"), settings)
    assert run(engine, str(repository)) == 0
    assert deployed(engine)[2:] == [("stn", "2"), ("stn", "1"), ("stn", "2")]
    assert [spec["options"]["instances"] for spec in engine.deployed] == [1, 1, 1, 3, 3]


def test_a_version_whose_folder_is_gone_ends_when_the_others_are_ready(engine: FakeEngine, repository: Path) -> None:
    def replace() -> None:
        write(repository, "stn/2")
        shutil.rmtree(repository / "stn/1")

    loads(engine, "stn", replace)
    assert run(engine, str(repository)) == 0
    assert engine.replies == {0: None}
    assert states(engine) == {("stn", "2"): "ready"}
    assert engine.calls.index(("retire", "stn", "1")) > engine.calls.index(("started",))


def test_a_broken_new_version_leaves_the_old_ones_and_is_tried_again(engine: FakeEngine, repository: Path) -> None:
    def replace() -> None:
        write(repository, "stn/2", "broken")
        shutil.rmtree(repository / "stn/1")

    loads(engine, "stn", replace, lambda: None, lambda: write(repository, "stn/2"))
    assert run(engine, str(repository)) == 0
    fault = f"{repository}/stn/2/model.py: no weights; put them there"
    assert engine.replies == {0: fault, 1: fault, 2: None}
    assert engine.codes == ["load_failed", "load_failed", None]
    assert states(engine) == {("stn", "2"): "ready"}


def test_a_version_that_changed_for_the_worse_serves_on_and_is_tried_again(
    engine: FakeEngine, repository: Path
) -> None:
    def prepare() -> None:
        write(repository, "stn/1", "changed")
        engine.failing.add("Stn")

    deploy = engine.deploy

    def takes_over_only_when_ready(spec: str) -> int:
        """As the data plane does: an old version that serves stays where the new one fails."""
        before = states(engine).get(("stn", "1"))
        serial = deploy(spec)
        if before == "ready" and engine.failing:
            engine._versions["stn", "1"]["state"] = "ready"
        return serial

    engine.deploy = takes_over_only_when_ready  # type: ignore[method-assign] # the fake replaces it at once
    loads(engine, "stn", prepare, engine.failing.clear)
    assert run(engine, str(repository)) == 0
    fault = f'{repository}/stn/1/model.py: model "stn" version "1": no weights; put them there'
    assert engine.replies == {0: fault, 1: None}
    assert len(engine.deployed) == 3


def test_a_model_that_appears_is_loaded_by_name_and_one_that_vanishes_serves_on(
    engine: FakeEngine, repository: Path
) -> None:
    loads(engine, "new", lambda: write(repository, "new/1"), lambda: shutil.rmtree(repository / "new"))
    assert run(engine, str(repository)) == 0
    gone = 'the folder of model "new" is gone; put it back, or unload the model: what is loaded serves on'
    assert engine.replies == {0: None, 1: gone}
    assert engine.codes == [None, "load_failed"]
    assert states(engine)["new", "1"] == "ready"


def test_a_repository_that_cannot_be_read_leaves_its_models(engine: FakeEngine, repository: Path) -> None:
    loads(engine, "stn", lambda: shutil.rmtree(repository))
    assert run(engine, str(repository)) == 0
    assert engine.replies == {0: f'folder "{repository}" cannot be read: No such file or directory'}
    assert states(engine) == {("stn", "1"): "ready"}


@pytest.mark.parametrize("name", ["../stn", "stn/1", "", "snt"])
def test_a_name_that_no_folder_has_is_unknown(engine: FakeEngine, repository: Path, name: str) -> None:
    loads(engine, name, lambda: None)
    assert run(engine, str(repository)) == 0
    assert engine.codes == ["unknown_model"]


def test_a_folder_that_comes_back_meanwhile_is_not_unloaded(engine: FakeEngine, repository: Path) -> None:
    def replace() -> None:
        write(repository, "stn/2")
        (repository / "stn/1").rename(repository / "away")

    deploy = engine.deploy

    def restoring(spec: str) -> int:
        if (repository / "away").exists():
            (repository / "away").rename(repository / "stn/1")
        return deploy(spec)

    engine.deploy = restoring  # type: ignore[method-assign] # while version 2 loads
    loads(engine, "stn", replace)
    assert run(engine, str(repository)) == 0
    assert states(engine) == {("stn", "1"): "ready", ("stn", "2"): "ready"}


def test_a_failure_whose_made_up_name_is_that_of_a_model_is_told(
    engine: FakeEngine, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repository, "s t n/1")
    write(repository, "s_t_n/1")
    assert run(engine, str(repository)) == 0
    assert states(engine)["s_t_n", "1"] == "ready"
    assert f"  {repository}/s t n failed: model name 's t n' has other characters" in capsys.readouterr().out


def test_an_unloaded_model_is_loaded_again_unchanged(engine: FakeEngine, repository: Path) -> None:
    engine.script = [{"kind": "unload", "ticket": 1, "name": "stn"}, {"kind": "load", "ticket": 2, "name": "stn"}]
    assert run(engine, str(repository)) == 0
    assert engine.replies == {1: None, 2: None}
    assert deployed(engine) == [("stn", "1")] * 2


def test_the_same_version_in_two_repositories_stops_the_start(engine: FakeEngine, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder, "stn/1")
    message = r'a/stn/1/model.py and .*/b/stn/1/model.py both have model "stn" version "1"; rename one of the files'
    with pytest.raises(TargetError, match=message):
        run(engine, str(tmp_path / "a"), str(tmp_path / "b"))


def test_a_version_that_appears_in_a_second_repository_does_not_take_over(engine: FakeEngine, tmp_path: Path) -> None:
    write(tmp_path / "a", "stn/1")
    write(tmp_path / "b", "other/1")
    loads(engine, "stn", lambda: write(tmp_path / "b", "stn/1"))
    assert run(engine, str(tmp_path / "a"), str(tmp_path / "b")) == 0
    assert f"is already served from {tmp_path / 'a'}/stn/1/model.py" in (engine.replies[0] or "")
    assert states(engine)["stn", "1"] == "ready"


def test_a_table_of_no_model_is_an_error_unless_its_model_may_come(engine: FakeEngine, repository: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[models.snt\] is the table of no model"):
        run(engine, str(repository), models={"snt": {}})
    assert run(FakeEngine(), str(repository), models={"snt": {}}, control="explicit") == 0


def test_a_samovar_toml_with_an_unknown_key_fails_its_model_alone(engine: FakeEngine, repository: Path) -> None:
    write(repository, "lprnet/1")
    file = repository / "lprnet/samovar.toml"
    file.write_text("max_batchsize = 3")
    loads(engine, "lprnet", lambda: None, lambda: file.write_text("max_batch_size = 3"))
    assert run(engine, str(repository)) == 0
    fault = f'unknown setting "max_batchsize" in {file}; did you mean "max_batch_size"?'
    assert engine.replies == {0: f"{repository}/lprnet/1/model.py: {fault}", 1: None}
    assert states(engine) == {("stn", "1"): "ready", ("lprnet", "1"): "ready"}
    assert engine.deployed[-1]["options"]["max_batch_size"] == 3


def test_what_is_not_read_is_told(engine: FakeEngine, repository: Path) -> None:
    write(repository, "stn/2")
    (repository / "stn/config.pbtxt").touch()
    lines: list[str] = []

    def log(level: str, message: str, fields: str) -> None:
        lines.append(f"{level}: {message}")

    engine.log = log  # type: ignore[method-assign] # to read what is logged
    assert run(engine, str(repository)) == 0
    file = repository / "stn/config.pbtxt"
    assert [line for line in lines if line.startswith("warning")] == [
        f"warning: {file} is not read; what it says belongs into samovar.toml beside it"
    ]


def test_a_start_of_which_no_folder_loads_ends(
    engine: FakeEngine, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repository, "stn/1", "broken")
    assert run(engine, str(repository), control="explicit") == 1
    assert f"{repository}/stn/1/model.py: {CAUSE['message']}" in capsys.readouterr().err
