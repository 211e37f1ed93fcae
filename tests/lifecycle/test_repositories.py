"""A folder of models while an engine serves it: versions side by side, new ones, changed ones, broken ones, none."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from http_door import Answer
from lifecycle.load import Load
from serving import APPS, Serve, Served
from watching import (
    entry,
    eventually,
    is_ready,
    keyed,
    load,
    pid_of,
    run,
    unload,
    value,
    wait_unloaded,
)

EXPLICIT = ["--control", "explicit"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one version of one model, which gives twice its key."""
    folder = tmp_path / "models"
    write(folder / "mortal/1")
    return folder


def write(folder: Path, factor: int = 2, in_load: str = "pass") -> None:
    """A version of the model: apps/mortal.py with its one idempotent class."""
    text = (APPS / "mortal.py").read_text().partition("@samovar.model(idempotent=False)")[0]
    text = text.replace("import time\n", "import time\nfrom pathlib import Path\n")
    text = text.replace("Ran(key * 2,", f"Ran(key * {factor},")
    text += f"\n    def load(self) -> None:\n        {in_load}\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(text)


def index(served: Served) -> dict[tuple[str, str], dict[str, Any]]:
    """The repository index by model and version."""
    lines = served.http.post("/v2/repository/index", {}).json()
    return {(line["name"], line["version"]): line for line in lines}


def states(served: Served) -> dict[tuple[str, str], str]:
    return {key: line["state"] for key, line in index(served).items()}


def of_version(served: Served, version: str, key: int = 5, model: str = "mortal") -> Answer:
    return served.http.infer(f"{model}/versions/{version}", keyed(key))


def test_versions_serve_side_by_side_and_the_highest_number_is_the_default(serve: Serve, repository: Path) -> None:
    for version, factor in (("2", 3), ("10", 4), ("blue", 5)):
        write(repository / "mortal" / version, factor)
    write(repository / "other/1", 6)
    served = serve(str(repository), "echo.py:EchoFp32")
    found = {version: value(of_version(served, version), "double") for version in ("1", "2", "10", "blue")}
    assert found == {"1": 10, "2": 15, "10": 20, "blue": 25}
    assert value(run(served.http, "mortal", 5), "double") == 20
    assert value(run(served.http, "other", 5), "double") == 30
    metadata = served.http.get("/v2/models/mortal").json()
    assert sorted(metadata["versions"]) == ["1", "10", "2", "blue"]
    assert is_ready(served, "echo_fp32")
    unknown = of_version(served, "3")
    assert (unknown.status, unknown.code()) == (404, "unknown_version")


def test_onnx_files_are_versions_of_one_model(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "models/scale"
    models.scale(folder / "1/model.onnx", 2.0)
    models.scale(folder / "2/model.onnx", 3.0)
    served = serve(str(folder.parent), options=EXPLICIT)
    assert [scaled(served, version) for version in ("", "/versions/1", "/versions/2")] == [3, 2, 3]
    (folder / "samovar.toml").write_text("max_batch_size = 5")
    assert load(served, "scale").status == 200
    assert served.http.get("/v2/models/scale/config").json()["max_batch_size"] == 5
    models.scale(folder / "3/model.onnx", 4.0)
    (folder / "3/model.onnx").write_bytes((folder / "3/model.onnx").read_bytes()[:60])
    answer = load(served, "scale")
    assert (answer.status, answer.code()) == (500, "load_failed")
    assert f"{folder}/3/model.onnx: model.onnx is cut off" in answer.json()["error"]
    assert scaled(served) == 3
    models.scale(folder / "3/model.onnx", 4.0)
    assert load(served, "scale").status == 200
    assert [scaled(served, version) for version in ("", "/versions/2")] == [4, 3]


def scaled(served: Served, version: str = "") -> float:
    """What a version of the ONNX model makes of 1."""
    return float(served.http.infer(f"scale{version}", {"x": np.ones((1, 3), np.float32)}).arrays()["output"][0, 0])


def test_one_model_of_a_repository_is_served_alone(serve: Serve, repository: Path) -> None:
    write(repository / "other/1")
    served = serve(str(repository / "mortal"))
    assert set(states(served)) == {("mortal", "1")}


def test_a_new_version_takes_over_under_load_and_the_old_one_goes_with_its_folder(
    serve: Serve, repository: Path
) -> None:
    served = serve(str(repository), options=EXPLICIT)
    old = pid_of(served, "mortal")
    with Load(served.http, "mortal", clients=4) as clients:
        write(repository / "mortal/2")
        assert load(served, "mortal").status == 200
        new = pid_of(served, "mortal")
        assert value(of_version(served, "1"), "pid") == old, "what did not change is not loaded again"
        shutil.rmtree(repository / "mortal/1")
        assert load(served, "mortal").status == 200
        wait = ("mortal", "1")
        eventually(lambda: index(served)[wait]["reason"] == "unloaded", "the old version is unloaded")
        assert pid_of(served, "mortal") == new
    assert clients.wrong() == []
    assert new != old
    assert served.wait_gone([old]) == []
    refused = of_version(served, "1")
    assert (refused.status, refused.code()) == (503, "not_ready")
    assert served.http.get("/v2/models/mortal").json()["versions"] == ["2"]


def test_changed_versions_take_over_under_load_when_they_are_ready(
    serve: Serve, repository: Path, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    served = serve(str(repository), options=EXPLICIT)
    old = pid_of(served, "mortal")
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    wait = f"Path({str(begun)!r}).touch()\n        while not Path({str(gate)!r}).exists(): time.sleep(0.01)"
    with Load(served.http, "mortal", clients=4) as clients:
        write(repository / "mortal/1", in_load=wait)
        reload = background.submit(load, served, "mortal")
        eventually(begun.exists, "the new files load")
        assert pid_of(served, "mortal") == old
        gate.touch()
        assert reload.result().status == 200
        assert pid_of(served, "mortal") != old
    assert clients.wrong() == []
    assert served.wait_gone([old]) == []


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("fault", ["no Python at all", "load", "empty"])
def test_a_broken_version_leaves_what_serves(serve: Serve, repository: Path, version: str, fault: str) -> None:
    served = serve(str(repository), options=EXPLICIT)
    pid = pid_of(served, "mortal")
    folder = repository / "mortal" / version
    if fault == "load":
        write(folder, in_load="raise RuntimeError('no weights today')")
    else:
        folder.mkdir(exist_ok=True)
        (folder / "model.py").write_text(fault)
    if fault == "empty":
        (folder / "model.py").unlink()
    with Load(served.http, "mortal", clients=2) as clients:
        for _ in range(2):
            answer = load(served, "mortal")
            assert (answer.status, answer.code()) == (500, "load_failed")
            assert f"mortal/{version}" in answer.json()["error"]
    assert clients.wrong() == []
    assert pid_of(served, "mortal") == pid
    assert is_ready(served, "mortal")
    write(folder, 4)
    assert load(served, "mortal").status == 200
    assert value(run(served.http, "mortal", 5), "double") == 20
    assert set(states(served).values()) == {"READY"}


def test_a_broken_model_does_not_keep_the_others_from_the_start(serve: Serve, repository: Path) -> None:
    (repository / "bad/1").mkdir(parents=True)
    (repository / "bad/1/model.py").write_text("no Python at all")
    write(repository / "worse/1", in_load="raise RuntimeError('no weights today')")
    write(repository / "mistyped/1")
    (repository / "mistyped/samovar.toml").write_text("max_batchsize = 3")
    served = serve(str(repository), options=EXPLICIT)
    assert states(served) == {
        ("mortal", "1"): "READY",
        ("bad", "1"): "UNAVAILABLE",
        ("worse", "1"): "UNAVAILABLE",
        ("mistyped", "1"): "UNAVAILABLE",
    }
    reasons = {key[0]: line["reason"] for key, line in index(served).items()}
    assert "SyntaxError" in reasons["bad"]
    assert "no weights today" in reasons["worse"]
    assert 'unknown setting "max_batchsize" in ' in reasons["mistyped"]
    answer = load(served, "mistyped")
    assert (answer.status, answer.code()) == (500, "load_failed")
    assert 'did you mean "max_batch_size"?' in answer.json()["error"]
    (repository / "mistyped/samovar.toml").write_text("max_batch_size = 3")
    write(repository / "bad/1")
    for model in ("mistyped", "bad"):
        assert load(served, model).status == 200
        assert value(run(served.http, model, 5), "double") == 10


def test_a_model_that_appears_is_loaded_by_its_name_and_one_that_vanishes_serves_on(
    serve: Serve, repository: Path
) -> None:
    served = serve(str(repository), options=EXPLICIT)
    answer = load(served, "late")
    assert (answer.status, answer.code()) == (404, "unknown_model")
    write(repository / "late/1")
    assert load(served, "late").status == 200
    assert value(run(served.http, "late", 5), "double") == 10
    shutil.rmtree(repository / "late")
    answer = load(served, "late")
    assert (answer.status, answer.code()) == (500, "load_failed")
    assert 'the folder of model "late" is gone' in answer.json()["error"]
    assert value(run(served.http, "late", 5), "double") == 10


def test_an_engine_may_start_with_an_empty_folder_and_models_come_by_name(serve: Serve, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    served = serve(str(empty), options=EXPLICIT)
    assert is_ready(served)
    assert served.ready["models"] == []
    write(empty / "mortal/1")
    assert load(served, "mortal").status == 200
    assert value(run(served.http, "mortal", 5), "double") == 10


def test_an_empty_folder_ends_the_start_with_the_cure(serve: Serve, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    served = serve(str(empty), ready=False)
    assert served.process.wait(timeout=30) == 2
    assert "has no models; put the file of a model there as empty/NAME/1/model.onnx" in served.output()


def test_every_version_is_unloaded_by_name_and_loaded_again(serve: Serve, repository: Path) -> None:
    write(repository / "mortal/2", 3)
    served = serve(str(repository), options=EXPLICIT)
    pids = [value(of_version(served, version), "pid") for version in ("1", "2")]
    assert unload(served, "mortal").status == 200
    assert served.wait_gone(pids) == []
    wait_unloaded(served, "mortal")
    assert not is_ready(served, "mortal")
    assert load(served, "mortal").status == 200
    assert value(of_version(served, "1"), "double") == 10
    assert value(of_version(served, "2"), "double") == 15


@pytest.mark.parametrize("name", ["..%2Fmodels%2Fmortal", "mortal%2F1", "%2e%2e", "mortal%00"])
def test_a_name_never_leaves_the_repository(serve: Serve, repository: Path, name: str) -> None:
    served = serve(str(repository), options=EXPLICIT)
    before = served.workers()
    answer = load(served, name)
    assert (answer.status, answer.code()) in [(400, "invalid_name"), (404, "unknown_model"), (404, "not_found")]
    assert entry(served, "mortal")["state"] == "READY"
    assert set(served.workers()) >= set(before)
