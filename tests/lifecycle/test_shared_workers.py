"""Models that share a worker: what they answer, whose turn it is, and what one of them may cost the others."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from lifecycle.load import Load
from lifecycle.sharing_workers import SHARED, add_adding, add_model, processes_of
from serving import APPS, Serve, both_transports
from watching import (
    entry,
    eventually,
    is_ready,
    keys_in,
    load,
    metric,
    pid_of,
    resident_kib,
    run,
    unload,
    value,
    wait_begun,
    wait_unloaded,
)

X = {"x": np.array([[1, 2, 3]], np.float32)}
MORTAL = APPS / "mortal.py"


def mortals(folder: Path, *names: str) -> Path:
    """apps/mortal.py under other names."""
    for name in names:
        text = MORTAL.read_text().partition("@samovar.model(idempotent=False)")[0]
        add_model(folder, name, text.replace("@samovar.model", "@samovar.model(max_batch_size=1)"))
    return folder


@both_transports
def test_many_models_answer_from_one_process(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for number in range(40):
        add_adding(folder, f"adding{number}", number)
    for number in range(10):
        models.scale(folder / f"scale{number}" / "1" / "model.onnx", factor=number)
    served = serve(str(folder), options=SHARED)
    for number in range(40):
        answer = served.http.infer(f"adding{number}", X)
        assert answer.arrays()["output"].tolist() == [[1 + number, 2 + number, 3 + number]]
    for number in range(10):
        answer = served.http.infer_binary(f"scale{number}", X)
        assert answer.arrays()["output"].tolist() == [[number, 2 * number, 3 * number]]
    assert len(set(processes_of(served).values())) == 1
    eventually(lambda: len(served.workers()) == 2, "one worker and the spare")


def test_models_share_by_group_and_keep_their_own_worker_by_default(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for name in ("plain", "first", "second", "other"):
        add_adding(folder, name, 1)
    (folder / "first" / "samovar.toml").write_text('worker = "ranking"')
    text = (folder / "second" / "1" / "model.py").read_text()
    (folder / "second" / "1" / "model.py").write_text(
        text.replace("@samovar.model", '@samovar.model(worker="ranking")')
    )
    (folder / "other" / "samovar.toml").write_text('worker = "shared"')
    served = serve(str(folder))
    found = processes_of(served)
    assert {name: worker for name, (worker, _) in found.items()} == {
        "plain": None,
        "first": "ranking/0",
        "second": "ranking/0",
        "other": "shared/0",
    }
    assert found["first"] == found["second"]
    assert len({pid for _, pid in found.values()}) == 3
    for name in found:
        assert served.http.infer(name, X).arrays()["output"].tolist() == [[2, 3, 4]]


def test_the_nth_instances_of_a_group_are_in_its_nth_worker(serve: Serve, tmp_path: Path) -> None:
    folder = mortals(tmp_path / "models", "one", "two")
    (folder / "two" / "samovar.toml").write_text("instances = 2")
    served = serve(str(folder), options=SHARED)
    with Load(served.http, "two", clients=4, seconds=0.01) as clients:
        eventually(lambda: len({value(s.answer, "pid") for s in list(clients.sent) if s.answer}) == 2, "both work")
    assert clients.wrong() == []
    assert pid_of(served, "one") in {value(sent.answer, "pid") for sent in clients.sent if sent.answer}


@both_transports
def test_models_of_a_worker_take_turns(
    serve: Serve, tmp_path: Path, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve(str(mortals(tmp_path / "models", "busy", "modest")), options=SHARED)
    background.submit(run, served.http, "busy", 1, 1.0)
    wait_begun(runs, 1)
    asked = [background.submit(run, served.http, "busy", 100 + number) for number in range(20)]
    eventually(lambda: metric(served, "samovar_queue_items", model="busy") == 20, "all wait")
    asked += [background.submit(run, served.http, "modest", 200 + number) for number in range(5)]
    assert [future.result().status for future in asked] == [200] * 25
    order = ["modest" if key >= 200 else "busy" for key in keys_in(runs)[1:]]
    last = max(place for place, name in enumerate(order) if name == "modest")
    assert last <= 10, f"five of the modest model within eleven turns: {order}"


@both_transports
def test_killing_a_shared_worker_under_load_loses_nothing(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(mortals(tmp_path / "models", "one", "two", "idle")), options=SHARED)
    pids = {pid_of(served, "one")}
    with Load(served.http, "one", clients=3) as ones, Load(served.http, "two", clients=3) as twos:
        for _ in range(3):
            last = pid_of(served, "one")
            os.kill(last, signal.SIGKILL)
            assert served.wait_gone([last]) == []
            pids.add(pid_of(served, "one"))
            enough = (len(ones.sent) + 20, len(twos.sent) + 20)
            eventually(lambda more=enough: (len(ones.sent), len(twos.sent)) >= more, "both go on")  # type: ignore[misc]
    assert ones.wrong() == twos.wrong() == []
    assert len(pids) == 4
    eventually(lambda: is_ready(served, "idle"), "who did nothing is back too")
    assert len({pid_of(served, name) for name in ("one", "two", "idle")}) == 1
    assert metric(served, "samovar_worker_restarts_total", model="idle", cause="neighbour") == 3


@pytest.mark.timeout(120)
@both_transports
def test_a_model_that_kills_its_worker_in_load_fails_and_its_neighbours_serve_on(serve: Serve, tmp_path: Path) -> None:
    folder, deadly = mortals(tmp_path / "models", "good"), tmp_path / "deadly"
    kill = f"os.path.exists({str(deadly)!r}) and os.kill(os.getpid(), 9)"
    text = MORTAL.read_text().partition("@samovar.model(idempotent=False)")[0]
    text = text.replace('"""May run again after a death."""', f"def load(self): {kill}")
    add_model(folder, "bad", text)
    served = serve(str(folder), options=SHARED)
    deadly.touch()
    with Load(served.http, "good", clients=2) as clients:
        os.kill(pid_of(served, "good"), signal.SIGKILL)
        eventually(lambda: "SIGKILL" in entry(served, "bad")["reason"], "it is named")
        eventually(
            lambda: metric(served, "samovar_version_state", model="bad", state="failed") == 1, "bad has failed", 60
        )
        done = len(clients.sent)
        eventually(lambda: len(clients.sent) > done + 50, "good serves on")
    assert clients.wrong() == []
    assert is_ready(served, "good")
    assert not is_ready(served, "bad")
    assert metric(served, "samovar_version_state", model="good", state="ready") == 1
    deadly.unlink()
    assert load(served, "bad").status == 200
    assert pid_of(served, "bad") == pid_of(served, "good")


@pytest.mark.timeout(120)
def test_a_model_whose_every_call_kills_the_worker_fails_alone(serve: Serve, tmp_path: Path) -> None:
    served = serve(str(mortals(tmp_path / "models", "good", "bad")), options=SHARED)
    with Load(served.http, "good", clients=2) as clients:
        statuses: list[int] = []
        while not statuses or statuses[-1] == 500:
            statuses.append(run(served.http, "bad", -2, len(statuses) / 1_000).status)  # unlike those before
        eventually(
            lambda: metric(served, "samovar_version_state", model="bad", state="failed") == 1, "bad has failed", 60
        )
    assert len(statuses) <= 4
    assert clients.wrong() == []
    assert value(run(served.http, "good", 4), "double") == 8


def test_a_call_that_does_not_end_costs_its_neighbours_a_restart(serve: Serve, tmp_path: Path, runs: Path) -> None:
    served = serve(str(mortals(tmp_path / "models", "good", "bad")), options=SHARED)
    worker = pid_of(served, "good")
    assert run(served.http, "bad", 7, 1_000.0, samovar_timeout_ms="100").code() == "deadline_exceeded"
    assert value(run(served.http, "good", 4), "double") == 8
    assert served.wait_gone([worker]) == []
    assert keys_in(runs) == [1, 7, 4], "what nobody waits for is not run again"
    assert value(run(served.http, "bad", 5), "double") == 10
    assert any("a call ran on for nobody" in line["message"] for line in served.log())


@both_transports
def test_reloads_and_unloads_of_one_leave_the_others_serving(serve: Serve, tmp_path: Path) -> None:
    folder = mortals(tmp_path / "models", "good")
    add_adding(folder, "changing", 1)
    served = serve(str(folder), options=SHARED)
    worker = pid_of(served, "good")
    with Load(served.http, "good", clients=2) as clients:
        for added in range(2, 6):
            file = add_adding(folder, "changing", added)
            for written in (file, file.with_name("beside.py")):
                os.utime(written, (added, added))  # Python's bytecode is as old as the second of its source
            assert load(served, "changing").status == 200
            assert served.http.infer("changing", X).arrays()["output"][0, 0] == 1 + added
        assert unload(served, "changing").status == 200
        wait_unloaded(served, "changing")
        assert served.http.infer("changing", X).code() == "not_ready"
        assert load(served, "changing").status == 200
        assert served.http.infer("changing", X).arrays()["output"][0, 0] == 6
    assert clients.wrong() == []
    assert processes_of(served)["changing"] == ("shared/0", worker)
    assert {value(sent.answer, "pid") for sent in clients.sent if sent.answer} == {worker}


def test_a_load_that_fails_leaves_the_others_serving(serve: Serve, tmp_path: Path) -> None:
    folder = mortals(tmp_path / "models", "good")
    served = serve(str(folder), options=SHARED)
    worker = pid_of(served, "good")
    raising = "class Adding:\n    def load(self):\n        print('about to fail'); raise ValueError('no weights')\n"
    file = add_adding(folder, "bad", 1)
    file.write_text(file.read_text().replace("class Adding:\n", raising))
    refused = load(served, "bad")
    assert refused.code() == "load_failed"
    assert "no weights" in refused.json()["error"]
    file.write_text("import nothing_of_that_name")
    assert "nothing_of_that_name" in load(served, "bad").json()["error"]
    add_adding(folder, "bad", 20)
    assert load(served, "bad").status == 200
    assert served.http.infer("bad", X).arrays()["output"].tolist() == [[21, 22, 23]]
    assert pid_of(served, "good") == worker
    line = next(line for line in served.log() if line["message"] == "about to fail")
    assert (line["model"], line["instance"], line["worker"]) == ("bad", 0, "shared/0")


def test_an_unload_gives_back_what_the_model_held_and_the_last_ends_the_process(serve: Serve, tmp_path: Path) -> None:
    folder = mortals(tmp_path / "models", "good")
    holding = "class Adding:\n    def load(self):\n        self.held, self.me = np.ones(1 << 25), self\n"
    file = add_adding(folder, "large", 1)
    file.write_text(file.read_text().replace("class Adding:\n", holding))
    served = serve(str(folder), options=SHARED)
    worker = pid_of(served, "good")
    full = resident_kib(worker)
    for _ in range(3):
        assert unload(served, "large").status == 200
        assert full - resident_kib(worker) > 200 << 10
        assert load(served, "large").status == 200
        assert resident_kib(worker) < full + (20 << 10)
    assert pid_of(served, "good") == worker
    assert unload(served, "large").status == unload(served, "good").status == 200
    assert served.wait_gone([worker]) == []
    assert load(served, "good").status == 200
    assert pid_of(served, "good") != worker


def test_lines_and_metrics_name_the_instance_and_the_worker(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for name in ("one", "two"):
        file = add_adding(folder, name, 1)
        counted = "import samovar\nprint('imported')\n"
        text = file.read_text().replace("import samovar\n", counted, 1)
        text = text.replace("x: Float", "context: samovar.Context, x: Float").replace(
            "        return", "        context.metrics.counter('asked').inc(); print('asked')\n        return"
        )
        file.write_text(text)
    served = serve(str(folder), options=SHARED)
    for name in ("one", "two"):
        assert served.http.infer(name, X, samovar_timeout_ms="9000").status == 200

    def told() -> list[dict[str, Any]]:
        return [line for line in served.log() if line["message"] in ("imported", "asked") and "model" in line]

    lines = eventually(lambda: told() if len(told()) == 4 else [], "four lines")
    assert {(line["message"], line["model"], line["worker"]) for line in lines} == {
        (message, name, "shared/0") for message in ("imported", "asked") for name in ("one", "two")
    }
    assert all(bool(line.get("request_id")) == (line["message"] == "asked") for line in lines)
    assert metric(served, "asked_total", model="shared/0") == 2
    assert metric(served, "samovar_process_resident_bytes", process="shared/0") > 1 << 20


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("def predict", "async def predict"), "its predict is async"),
        (("        return", "        yield"), "its predict yields"),
        (("    def predict", "    other = samovar.use('one')\n\n    def predict"), "it calls other models"),
    ],
)
def test_what_cannot_share_is_refused_by_name_and_has_its_own_by_default(
    serve: Serve, tmp_path: Path, change: tuple[str, str], fault: str
) -> None:
    folder = tmp_path / "models"
    add_adding(folder, "one", 1)
    file = add_adding(folder, "two", 1)
    text = file.read_text().replace(*change)
    if "yield" in change[1]:
        text = text.replace("import numpy", "from collections.abc import Iterator\nimport numpy")
        text = text.replace('-> Float32[np.ndarray, "batch 3"]', '-> Iterator[Float32[np.ndarray, "3"]]')
        text = text.replace('x: Float32[np.ndarray, "batch 3"]', 'x: Float32[np.ndarray, "3"]')
    file.write_text(text)
    (folder / "two" / "samovar.toml").write_text('worker = "ranking"')
    served = serve(str(folder), options=SHARED)
    assert entry(served, "two")["reason"] == f'model "two" has worker = "ranking", but {fault}'
    assert 'leave worker out, or write worker = "own"' in served.model("two")["cause"]["next_step"]
    (folder / "two" / "samovar.toml").unlink()
    assert load(served, "two").status == 200
    assert {name: worker for name, (worker, _) in processes_of(served).items()} == {"one": "shared/0", "two": None}
