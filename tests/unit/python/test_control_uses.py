"""What models and services use is found, loaded with them and bound; what leads nowhere fails alone."""

import json
from pathlib import Path
from typing import Any

import pytest

import models
from samovar.errors import TargetError
from unit.python.fake_engine import CAUSE, FakeEngine, described, run


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def model(name: str, path: str = "/a.py", version: str = "1", **uses: Any) -> dict[str, Any]:
    """A class of a file, and what it uses by attribute."""
    found = described(name, version)
    return {**found, "source": {**found["source"], "path": path, "uses": uses}}


def service(name: str, path: str = "/a.py", *methods: str, **uses: Any) -> dict[str, Any]:
    spec = {"name": "x", "datatype": "UINT8", "dims": [-1]}
    found = {**model(name, path, **uses), "runtime": "service", "inputs": [], "outputs": [], "batch_axis": False}
    shown = {
        "routes": [{"methods": ["POST"], "path": f"/{name}/{method}", "idempotent": False} for method in methods],
        "mounts": [f"/{name}"],
        "methods": [{"name": method, "inputs": [spec], "outputs": [spec]} for method in methods],
        "description": "",
    }
    return {**found, "service": shown}


def cls(name: str, path: str = "/a.py", version: str = "1") -> dict[str, Any]:
    return {"kind": "class", "path": path, "class": name.title(), "name": name, "version": version}


def named(name: str, version: str | None = None) -> dict[str, Any]:
    return {"kind": "name", "path": None, "class": None, "name": name, "version": version}


def at(path: Path | str, class_name: str | None = None) -> dict[str, Any]:
    return {"kind": "file", "path": str(path), "class": class_name, "name": None, "version": None}


def deployed(engine: FakeEngine) -> dict[str, dict[str, Any]]:
    return {spec["name"]: spec for spec in engine.deployed}


def failures(engine: FakeEngine) -> dict[str, str]:
    """What of the engine has failed, with message and cure."""
    versions = json.loads(engine.versions())
    causes = {version["name"]: version["cause"] for version in versions if version["state"] == "failed"}
    return {name: "; ".join((cause["message"], cause["next_step"])).rstrip("; ") for name, cause in causes.items()}


def test_a_handle_knows_the_model_that_it_leads_to(engine: FakeEngine) -> None:
    engine.files = {"a.py": [model("stn"), service("plates", stn=cls("stn"))]}
    assert run(engine, "a.py") == 0
    specs = deployed(engine)
    spec = {"name": "x", "datatype": "FP32", "dims": [2]}
    signature = {"inputs": [spec], "outputs": [spec], "batch_axis": True, "streams": False}
    assert specs["plates"]["source"]["uses"] == {"stn": {"model": "stn", "version": "1", **signature}}
    assert specs["plates"]["uses"] == ["stn"]
    assert (specs["stn"]["uses"], specs["stn"]["source"]["uses"]) == ([], {})


def test_a_class_of_another_file_is_loaded_with_its_user(engine: FakeEngine) -> None:
    engine.files = {
        "a.py": [service("plates", stn=cls("stn", "/b.py"), lpr=cls("lpr", "/b.py"))],
        "b.py": [model("stn", "/b.py"), model("other", "/b.py"), model("lpr", "/b.py", inner=cls("net", "/c.py"))],
        "c.py": [model("net", "/c.py")],
    }
    assert run(engine, "a.py") == 0
    assert set(deployed(engine)) == {"plates", "stn", "lpr", "net"}, "and what that uses, but nothing else"
    assert deployed(engine)["plates"]["uses"] == ["lpr", "stn"]


def test_one_class_of_a_file_brings_those_that_it_uses(engine: FakeEngine) -> None:
    engine.files = {"a.py": [model("stn"), model("other"), service("plates", stn=cls("stn"))]}
    assert run(engine, "a.py:Plates") == 0
    assert set(deployed(engine)) == {"plates", "stn"}


def test_what_two_use_or_a_target_has_is_loaded_once(engine: FakeEngine) -> None:
    engine.files = {
        "a.py": [service("plates", stn=cls("stn", "/b.py")), service("signs", stn=cls("stn", "/b.py"))],
        "b.py": [model("stn", "/b.py")],
    }
    assert run(engine, "a.py", "b.py") == 0
    assert len(engine.deployed) == 3
    assert len(engine.questions) == 2


def test_a_class_and_its_whole_file_are_no_duplicates(engine: FakeEngine, tmp_path: Path) -> None:
    file = tmp_path / "b.py"
    file.touch()
    engine.files = {
        "a.py": [service("plates", stn=cls("stn", str(file))), service("signs", stn=at(file))],
        "b.py": [model("stn", str(file))],
    }
    assert run(engine, "a.py") == 0
    assert sorted(spec["name"] for spec in engine.deployed) == ["plates", "signs", "stn"]
    assert deployed(engine)["signs"]["uses"] == ["stn"]


def test_model_files_and_folders_are_found(engine: FakeEngine, tmp_path: Path) -> None:
    models.scale(tmp_path / "double.onnx")
    for version in ("1", "12", "3"):
        models.scale(tmp_path / "lprnet" / version / "model.onnx")
    engine.files = {"a.py": [service("plates", double=at(tmp_path / "double.onnx"), lpr=at(tmp_path / "lprnet"))]}
    assert run(engine, "a.py") == 0
    found = deployed(engine)["plates"]["source"]["uses"]
    assert {key: (use["model"], use["version"]) for key, use in found.items()} == {
        "double": ("double", "1"),
        "lpr": ("lprnet", None),
    }
    assert sum(spec["name"] == "lprnet" for spec in engine.deployed) == 3


def test_a_name_is_that_of_any_target_and_of_a_services_method(engine: FakeEngine) -> None:
    user = service("signs", "/b.py", stn=named("stn"), plates=named("plates.read"))
    engine.files = {"a.py": [model("stn", version="2"), service("plates", "/a.py", "read")], "b.py": [user]}
    assert run(engine, "a.py", "b.py") == 0
    found = deployed(engine)["signs"]["source"]["uses"]
    assert (found["stn"]["model"], found["stn"]["version"]) == ("stn", None)
    assert (found["plates"]["model"], found["plates"]["inputs"][0]["datatype"]) == ("plates.read", "UINT8")
    assert deployed(engine)["signs"]["uses"] == ["plates.read", "stn"]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (named("snt"), 'uses "snt", and no target has a model of that name; did you mean "stn"?'),
        (named("stn", "7"), 'uses version "7" of model "stn", which no target has; it has: 1'),
        (
            named("signs"),
            (
                'uses the service "signs", and services are called by clients alone; name a method that takes tensors: '
                "signs.read"
            ),
        ),
        (
            named("signs.raed"),
            'uses "signs.raed", and service "signs" has no such method that takes tensors; did you mean "read"?',
        ),
        (at("/nowhere/stn.onnx"), 'uses what cannot be served: target "/nowhere/stn.onnx" does not exist; there is no'),
        (cls("bad", "/bad.py"), "uses /bad.py:Bad, which cannot be served: no weights; put them there"),
    ],
    ids=["unknown name", "unknown version", "service", "unknown method", "unknown file", "failed file"],
)
def test_a_handle_that_leads_nowhere_fails_its_user_alone(
    engine: FakeEngine, use: dict[str, Any], message: str
) -> None:
    engine.files = {
        "a.py": [model("stn"), service("signs", "/a.py", "read"), service("plates", h=use)],
        "bad.py": CAUSE,
    }
    assert run(engine, "a.py") == 0
    assert set(deployed(engine)) == {"stn", "signs"}
    assert failures(engine)["plates"].startswith(f'service "plates" (h) {message}')


def test_a_file_of_several_models_is_no_model(engine: FakeEngine, tmp_path: Path) -> None:
    file = tmp_path / "b.py"
    file.touch()
    engine.files = {"a.py": [service("plates", h=at(file))], "b.py": [model(name, str(file)) for name in ("x", "y")]}
    assert run(engine, "a.py") == 0
    assert failures(engine) == {
        "plates": f'service "plates" (h) uses {file}, which has several models: x, y; name one with b.py:Class'
    }


def test_models_that_use_each_other_stop_the_start(engine: FakeEngine) -> None:
    engine.files = {"a.py": [model("a", h=named("b")), model("b", h=named("c")), model("c", h=named("a"))]}
    with pytest.raises(TargetError, match=r"^models use each other in a circle: a -> b -> c -> a; put what both need"):
        run(engine, "a.py")
    assert engine.deployed == []


def test_a_service_that_uses_its_own_method_stops_the_start(engine: FakeEngine) -> None:
    engine.files = {"a.py": [service("plates", "/a.py", "read", h=named("plates.read"))]}
    with pytest.raises(TargetError, match=r"^models use each other in a circle: plates -> plates; "):
        run(engine, "a.py")


def test_a_circle_that_a_load_would_close_is_refused_to_the_client(engine: FakeEngine) -> None:
    engine.files = {"a.py": [model("a")], "b.py": [model("b", "/b.py", h=named("a"))]}
    engine.script = [{"kind": "load", "ticket": 1, "name": "a"}]
    started = engine.mark_started

    def rewrite() -> None:
        engine.files["a.py"] = [model("a", h=named("b"))]
        started()

    engine.mark_started = rewrite  # type: ignore[method-assign] # the file is written anew while the engine serves
    assert run(engine, "a.py", "b.py") == 0
    assert (engine.replies[1] or "").startswith("/a.py:A: models use each other in a circle: a -> b -> a; ")
    assert len(engine.deployed) == 2, "what serves goes on"


def test_a_load_of_a_user_leaves_what_it_uses_alone_and_loads_what_is_gone(engine: FakeEngine) -> None:
    engine.files = {"a.py": [service("plates", stn=cls("stn", "/b.py"))], "b.py": [model("stn", "/b.py")]}
    engine.script = [
        {"kind": "load", "ticket": 1, "name": "plates"},
        {"kind": "load", "ticket": 2, "name": "stn"},
        {"kind": "unload", "ticket": 3, "name": "stn"},
        {"kind": "load", "ticket": 4, "name": "plates"},
    ]
    assert run(engine, "a.py") == 0
    assert engine.replies == {1: None, 2: None, 3: None, 4: None}
    assert [spec["name"] for spec in engine.deployed] == ["plates", "stn", "plates", "stn", "plates", "stn"]


def test_a_folder_that_is_used_is_loaded_by_name_again(engine: FakeEngine, tmp_path: Path) -> None:
    models.scale(tmp_path / "lprnet" / "1" / "model.onnx")
    engine.files = {"a.py": [service("plates", lpr=at(tmp_path / "lprnet"))]}
    engine.script = [{"kind": "load", "ticket": 1, "name": "lprnet"}]
    started = engine.mark_started

    def add() -> None:
        models.scale(tmp_path / "lprnet" / "2" / "model.onnx")
        started()

    engine.mark_started = add  # type: ignore[method-assign] # a new version lies there while the engine serves
    assert run(engine, "a.py") == 0
    assert engine.replies == {1: None}
    assert [spec["version"] for spec in engine.deployed if spec["name"] == "lprnet"] == ["1", "2"]


def test_a_service_and_a_model_of_one_name_stop_the_start_and_are_both_named(engine: FakeEngine) -> None:
    engine.files = {"a.py": [service("plates")], "b.py": [model("plates", "/b.py")]}
    with pytest.raises(TargetError, match=r'^/a.py and /b.py both have model "plates" version "1"; rename one'):
        run(engine, "a.py", "b.py")


def test_a_table_of_a_service_takes_what_services_have(engine: FakeEngine) -> None:
    engine.files = {"a.py": [service("plates"), service("signs")]}
    assert run(engine, "a.py", models={"plates": {"instances": 2}, "signs": {"max_batch_size": 8}}) == 0
    assert deployed(engine)["plates"]["options"]["instances"] == 2
    assert failures(engine)["signs"].startswith(
        'setting "max_batch_size" of [models.signs] is one of models; a service'
    )


def with_settings(path: Path, **declared: Any) -> dict[str, Any]:
    return {**at(path), "declared": declared}


def test_settings_of_a_handle_stand_between_those_of_the_engine_and_those_beside_the_file(
    engine: FakeEngine, tmp_path: Path
) -> None:
    path = models.scale(tmp_path / "double.onnx")
    (tmp_path / "samovar.toml").write_text("instances = 2\nthreads = 2\nmax_batch_size = 2\n")
    engine.files = {"a.py": [service("plates", h=with_settings(path, threads=3, max_batch_size=3))]}
    assert run(engine, "a.py", models={"double": {"max_batch_size": 4}}) == 0
    options = deployed(engine)["double"]["options"]
    assert [options[key] for key in ("instances", "threads", "max_batch_size")] == [2, 3, 4]


def test_settings_of_a_handle_stay_when_a_client_loads_the_model_again(engine: FakeEngine, tmp_path: Path) -> None:
    models.scale(tmp_path / "lprnet" / "1" / "model.onnx")
    file = models.scale(tmp_path / "double.onnx")
    uses: dict[str, Any] = {"lpr": with_settings(tmp_path / "lprnet", threads=3), "h": with_settings(file, threads=3)}
    engine.files = {"a.py": [service("plates", **uses)]}
    engine.script = [
        {"kind": "load", "ticket": number, "name": name} for number, name in enumerate(("lprnet", "double"))
    ]
    started = engine.mark_started

    def add() -> None:
        models.scale(tmp_path / "lprnet" / "2" / "model.onnx")
        started()

    engine.mark_started = add  # type: ignore[method-assign] # a new version lies there while the engine serves
    assert run(engine, "a.py") == 0
    assert engine.replies == {0: None, 1: None}
    loaded = [spec for spec in engine.deployed if spec["name"] != "plates"]
    assert [spec["options"]["threads"] for spec in loaded] == [3] * 4


def test_a_file_has_the_settings_of_one_handle_alone(engine: FakeEngine, tmp_path: Path) -> None:
    path = models.scale(tmp_path / "double.onnx")
    engine.files = {
        "a.py": [
            service("plates", h=with_settings(path, threads=3)),
            service("signs", h=with_settings(path, threads=3)),
            service("plain", h=at(path)),
            service("other", h=with_settings(path, threads=4)),
        ]
    }
    assert run(engine, "a.py") == 0
    assert set(deployed(engine)) == {"double", "plates", "signs", "plain"}
    assert failures(engine)["other"].startswith(
        'service "other" (h) sets threads of double.onnx, which is served without or with others; write them into'
    )


def test_a_target_is_served_as_it_was_named(engine: FakeEngine, tmp_path: Path) -> None:
    path = models.scale(tmp_path / "double.onnx")
    engine.files = {"a.py": [service("plates", h=with_settings(path, threads=3))]}
    assert run(engine, "a.py", str(path)) == 0
    assert set(failures(engine)) == {"plates"}


def test_a_handle_says_the_format_of_a_file_that_nobody_knows(engine: FakeEngine, tmp_path: Path) -> None:
    path = tmp_path / "double.bin"
    path.write_text("broken")
    engine.files = {"a.py": [service("plates", h=with_settings(path, runtime="onnx"))]}
    run(engine, "a.py")
    assert [question["declared"] for question in engine.questions if question["name"] == "double"] == [
        {"runtime": "onnx"}
    ]
