"""The control loop moves a (fake) data plane to what the targets say."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from samovar.control.ready_file import ReadyFile
from samovar.errors import ConfigError, TargetError
from unit.python.fake_engine import CAUSE, FakeEngine, described, run


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def test_every_model_is_loaded_and_the_probe_becomes_the_first(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.files = {"a.py": [described("one", instances=2), described("two")]}
    assert run(engine, "a.py", models={"two": {"max_batch_size": 8}}) == 0
    assert [(spec["name"], spec["probe"]) for spec in engine.deployed] == [("one", 1), ("two", None)]
    assert [spec["options"]["max_batch_size"] for spec in engine.deployed] == [64, 8]
    assert engine.deployed[0]["options"]["instances"] == 2
    assert engine.calls == [("started",), ("stop",)]
    output = capsys.readouterr().out
    assert output.startswith(
        "samovar serves 2 of 2 models at http://127.0.0.1:4711\n"
        "  one (version 1) ready, batches of up to 64 rows\n"
        "  two (version 1) ready, batches of up to 8 rows\n"
        "try:\n"
        "  curl http://127.0.0.1:4711/v2/models/one/infer"
    )


def test_a_target_that_fails_leaves_the_others_serving(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.files = {"bad.py": CAUSE, "a.py": [described("one"), described("two")]}
    engine.failing = {"Two"}
    engine.script = [{"kind": "load", "ticket": 1, "name": "one"}]
    ready = tmp_path / "ready.json"
    documents: list[dict[str, Any]] = []
    engine.on_reply = lambda ticket, error: documents.append(json.loads(ready.read_text()))
    assert run(engine, "bad.py", "a.py", ready_file=str(ready)) == 0
    (document,) = documents
    assert document["ports"] == {"http": 4711, "grpc": None}
    assert {model["name"]: (model["state"], model["cause"]) for model in document["models"]} == {
        "bad": ("failed", CAUSE),
        "one": ("ready", None),
        "two": ("failed", CAUSE),
    }
    assert list(tmp_path.iterdir()) == [], "it goes with the engine, and nothing else was left"
    assert "  two (version 1) failed: no weights; put them there\n" in capsys.readouterr().out


def test_a_start_of_which_nothing_loads_ends_with_the_causes(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.files = {"bad.py": CAUSE, "a.py": [described("one")]}
    engine.failing = {"One"}
    ready = tmp_path / "ready.json"
    documents: list[dict[str, Any]] = []
    stop = engine.stop

    def looking() -> None:
        documents.append(json.loads(ready.read_text()))
        stop()

    engine.stop = looking  # type: ignore[method-assign] # to read the file while it is there
    assert run(engine, "bad.py", "a.py", ready_file=str(ready)) == 1
    assert capsys.readouterr() == (
        "",
        (
            "samovar: no target could be loaded:\n"
            "  /bad.py: no weights; put them there\n"
            '  /a.py: model "one" version "1": no weights; put them there\n'
        ),
    )
    assert [len(document["models"]) for document in documents] == [2]
    assert ready.exists(), "it tells the causes"
    assert engine.calls == [("stop",)]


def test_a_failure_does_not_take_the_name_of_a_model_and_is_told_all_the_same(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.files = {"one.py": CAUSE, "a.py": [described("one")]}
    assert run(engine, "one.py", "a.py") == 0
    assert [(v["name"], v["state"]) for v in json.loads(engine.versions())] == [("one", "ready")]
    output = capsys.readouterr().out
    assert output.startswith("samovar serves 1 of 2 models at")
    assert "\n  /one.py failed: no weights; put them there\n" in output


def test_a_model_without_a_batch_axis_is_told_what_to_do_about_it(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [{**described(name), "batch_axis": False} for name in ("one", "two")]
    engine.files = {"a.py": [*models, described("three")]}
    run(engine, "a.py", models={"two": {"instances": 3}, "three": {"max_batch_size": 1}})
    output = capsys.readouterr().out
    cure = "at a time (name the first axis `batch` to batch)\n"
    assert f"  one (version 1) ready, no batch axis: one request {cure}" in output
    assert f"  two (version 1) ready, no batch axis: 3 requests {cure}" in output
    assert "  three (version 1) ready, one row at a time (max_batch_size is 1)\n" in output


def test_a_ready_file_is_there_only_while_its_engine_serves(engine: FakeEngine, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    ready.write_text("stale")
    engine.files = {"a.py": [described("one")]}
    engine.script = [{"kind": "load", "ticket": 1, "name": "one"}]
    seen: list[str | None] = []
    probe = engine.probe

    def looking(request: str, is_passing: bool) -> int:
        seen.append(ready.read_text() if ready.exists() else None)
        return probe(request, is_passing)

    engine.probe = looking  # type: ignore[method-assign] # to look before the loads of the start, and at a later one
    assert run(engine, "a.py", ready_file=str(ready)) == 0
    assert seen[0] is None
    assert json.loads(seen[1] or "")["pid"] == os.getpid()
    assert not ready.exists()


def test_a_ready_file_of_another_engine_stays(engine: FakeEngine, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    engine.files = {"a.py": [described("one")]}
    engine.script = [{"kind": "load", "ticket": 1, "name": "one"}]

    def replace(ticket: int, _: str | None) -> None:
        ready.write_text('{"pid": 1}')

    engine.on_reply = replace
    assert run(engine, "a.py", ready_file=str(ready)) == 0
    assert ready.exists()


def test_a_ready_file_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ReadyFile(None).check()
    ReadyFile(str(tmp_path / "ready.json")).check()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"is a folder; name a file in it$"):
        ReadyFile(str(tmp_path)).check()
    with pytest.raises(ConfigError, match=r'there is no folder ".*/missing"; make it first$'):
        ReadyFile(str(tmp_path / "missing" / "ready.json")).check()

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(ConfigError, match=r"cannot be written: Permission denied; choose another --ready-file"):
        ReadyFile(str(tmp_path / "ready.json")).check()


def test_a_ready_file_that_became_impossible_ends_no_engine(engine: FakeEngine, tmp_path: Path) -> None:
    engine.files = {"a.py": [described("one")]}
    assert run(engine, "a.py", ready_file=str(tmp_path / "gone" / "ready.json")) == 0


def test_duplicates_stop_the_start_and_name_both(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one")], "b.py": [described("one")]}
    with pytest.raises(TargetError, match=r'^/a.py and /b.py both have model "one" version "1"; rename one with'):
        run(engine, "a.py", "b.py")
    assert engine.deployed == []
    assert engine.calls == [("stop",)]


def test_two_versions_of_a_model_are_no_duplicates(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one")], "b.py": [described("one", "2")]}
    assert run(engine, "a.py", "b.py") == 0
    assert {spec["version"] for spec in engine.deployed} == {"1", "2"}


def test_settings_of_no_model_stop_the_start(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one")]}
    with pytest.raises(ConfigError, match=r'^\[models.ones\] is the table of no model; did you mean "one"\?$'):
        run(engine, "a.py", models={"ones": {}})


def test_settings_that_contradict_a_signature_fail_that_model(engine: FakeEngine) -> None:
    engine.files = {"a.py": [{**described("one"), "batch_axis": False}, described("two")]}
    assert run(engine, "a.py", models={"one": {"max_batch_size": 8}}) == 0
    assert [(spec["name"], spec["probe"]) for spec in engine.deployed] == [("two", 1)]
    (one,) = [version for version in json.loads(engine.versions()) if version["name"] == "one"]
    assert one["cause"]["message"] == 'model "one" has max_batch_size = 8 but no batch axis'


def test_a_probe_that_nothing_needs_is_ended(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one")], "b.py": [{**described("two", max_batch_size=2), "batch_axis": False}]}
    assert run(engine, "a.py", "b.py") == 0
    assert any(call[0] == "discard" for call in engine.calls)


def test_a_load_describes_the_class_again_in_a_fresh_worker(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one"), described("two")]}
    engine.script = [{"kind": "load", "ticket": 5, "name": "two"}]
    assert run(engine, "a.py") == 0
    assert engine.replies == {5: None}
    assert [(spec["name"], spec["probe"]) for spec in engine.deployed] == [("one", 1), ("two", None), ("two", 2)]


def test_a_load_that_fails_is_told_to_the_client(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one")]}
    engine.script = [{"kind": "load", "ticket": ticket, "name": "one"} for ticket in (1, 2)]

    def break_it(ticket: int, _: str | None) -> None:
        engine.files["a.py"] = CAUSE

    engine.on_reply = break_it
    assert run(engine, "a.py") == 0
    assert engine.replies == {1: None, 2: "/a.py:One: no weights; put them there"}
    assert [(v["name"], v["state"]) for v in json.loads(engine.versions())] == [("one", "ready")], "no phantom"


def test_a_target_that_was_mended_loads_under_its_own_names(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one")], "bad.py": CAUSE}
    engine.script = [
        {"kind": "load", "ticket": 1, "name": "one"},
        {"kind": "load", "ticket": 2, "name": "bad"},
        {"kind": "load", "ticket": 3, "name": "two"},
    ]

    def mend(ticket: int, _: str | None) -> None:
        engine.files["bad.py"] = [described("two")]

    engine.on_reply = mend
    assert run(engine, "a.py", "bad.py") == 0
    assert engine.replies == {1: None, 2: None, 3: None}
    assert {version["name"] for version in json.loads(engine.versions())} == {"one", "two"}


def test_a_name_of_no_target_cannot_be_loaded(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("stn")]}
    engine.script = [{"kind": "load", "ticket": 1, "name": "snt"}, {"kind": "load", "ticket": 2, "name": "x"}]
    assert run(engine, "a.py") == 0
    assert engine.replies == {
        1: 'no target of this engine has a model "snt"; did you mean "stn"?',
        2: 'no target of this engine has a model "x"; known are stn',
    }


def test_an_unload_retires_every_version(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one"), described("one", "2"), described("two")]}
    engine.script = [{"kind": "unload", "ticket": 1, "name": "one"}, {"kind": "unload", "ticket": 2, "name": "one"}]
    assert run(engine, "a.py") == 0
    assert engine.replies == {1: None, 2: None}
    assert [version["name"] for version in json.loads(engine.versions())] == ["two"]


def test_a_start_says_what_a_bind_exposes(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.files = {"a.py": [described("one")]}
    run(engine, "a.py", host="0.0.0.0", control="explicit")
    assert (
        "  exposed: whoever reaches 0.0.0.0 can call, load and unload every model, without a password\n"
        in capsys.readouterr().out
    )


def test_an_unload_answers_a_load_that_it_overtakes(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one")], "b.py": [described("two")]}
    engine.script = [{"kind": "load", "ticket": 1, "name": "two"}]
    deploy = engine.deploy

    def hold(spec: str) -> int:
        if len(engine.deployed) < 2:
            return deploy(spec)
        engine._events.put({"kind": "unload", "ticket": 2, "name": "two"})  # comes while the load is under way
        engine._events.put({"kind": "version", "serial": 99, "state": "unloaded", "cause": None})
        return 99

    engine.deploy = hold  # type: ignore[method-assign] # a slow load
    assert run(engine, "a.py", "b.py") == 0
    assert engine.replies == {1: '/b.py:Two: model "two" version "1": it was unloaded meanwhile', 2: None}


def test_a_version_that_comes_back_does_not_answer_for_a_newer_load(engine: FakeEngine) -> None:
    engine.files = {"a.py": [described("one")]}
    engine.script = [{"kind": "load", "ticket": 1, "name": "one"}]
    deploy = engine.deploy

    def hold(spec: str) -> int:
        if not engine.deployed:
            return deploy(spec)
        engine._events.put({"kind": "version", "serial": 1, "state": "ready", "cause": None})
        engine._events.put({"kind": "version", "serial": 99, "state": "failed", "cause": CAUSE})
        return 99

    engine.deploy = hold  # type: ignore[method-assign] # a load that fails after the old version was restarted
    assert run(engine, "a.py") == 0
    assert engine.replies == {1: '/a.py:One: model "one" version "1": no weights; put them there'}
