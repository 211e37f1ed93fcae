"""Samples run before a version takes requests, so that none of these pays what a model does when it is first called."""

from pathlib import Path

import numpy as np
import pytest

import models
from owner import Admin, admin
from serving import Serve, Served, both_transports
from watching import eventually, load, metric, unload

EXPLICIT = ["--control", "explicit"]
X = {"x": np.ones((1, 1), np.float32)}

# Each size of batch is lazy: `lazy` tells whether its call was the first of that size. What is run is noted by size.
LAZY = """
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

import samovar


class Ran(NamedTuple):
    y: Float32[np.ndarray, "batch 1"]
    lazy: Int64[np.ndarray, "batch 1"]


@samovar.model(max_batch_size=6{options})
class Lazy:
    def __init__(self) -> None:
        self.known = set()

    {warm_up}

    {keyword} predict(self, x: Float32[np.ndarray, "batch 1"]) -> Ran:
        with Path({notes!r}).open("a") as notes:
            notes.write(f"{{os.getpid()}} {{len(x)}} {{x[0, 0]:.0f}}\\n")
        {before}
        is_new = len(x) not in self.known
        self.known.add(len(x))
        return Ran(x, np.full((len(x), 1), is_new, np.int64))
"""
DECLARED = "def warm_up(self): return np.float32([[7], [8]])"


def lazy(
    folder: Path, warm_up: str = DECLARED, *, options: str = "", before: str = "", keyword: str = "def"
) -> tuple[str, Path]:
    """The file of the model above, and its notes."""
    notes, file = folder / "notes", folder / "lazy.py"
    notes.touch()
    words = {"warm_up": warm_up, "options": options, "before": before or "pass", "keyword": keyword}
    file.write_text(LAZY.format(notes=str(notes), **words))
    return str(file), notes


def sizes(notes: Path, pid: int | None = None) -> list[int]:
    """The sizes of the batches that were run, by one process or by any."""
    lines = [list(map(int, line.split())) for line in notes.read_text().splitlines()]
    return [size for ran_by, size, _ in lines if pid in (None, ran_by)]


def is_lazy(served: Served) -> bool:
    answer = served.http.infer("lazy", X)
    assert answer.status == 200, answer.body
    return bool(answer.arrays()["lazy"].any())


def pid(served: Served) -> int | None:
    """The process of its instance; None while there is none."""
    (version,) = [version for version in admin(served).get("/admin/state")["models"] if version["name"] == "lazy"]
    pids: list[int] = [instance["pid"] for instance in version["instances"]]
    return pids[0] if pids else None


def history(served: Served, model: str) -> list[tuple[str, str]]:
    return [(event["state"], event["message"]) for event in admin(served).events(f"model={model}")]


def states(served: Served, model: str) -> list[str]:
    return [state for state, _ in history(served, model)]


@both_transports
@pytest.mark.parametrize(
    ("keyword", "warm_up"),
    [
        ("def", DECLARED),
        ("def", "async def warm_up(self): return {'x': np.float32([[7]])}"),
        ("async def", "async def warm_up(self): yield np.float32([[7]])"),
    ],
)
def test_declared_samples_run_at_every_bucket_before_the_first_request_and_at_each_reload(
    serve: Serve, tmp_path: Path, keyword: str, warm_up: str
) -> None:
    file, notes = lazy(tmp_path, warm_up, keyword=keyword)
    served = serve(file, options=EXPLICIT)
    first = pid(served)
    assert sizes(notes) == [1, 2, 4, 6]
    assert not is_lazy(served)
    assert states(served, "lazy") == ["configured", "loading", "warming", "ready"]
    assert load(served, "lazy").status == 200
    second = pid(served)
    assert second != first
    assert not is_lazy(served)
    assert sizes(notes, second) == [1, 2, 4, 6, 1]


def test_an_instance_that_comes_back_warms_too(serve: Serve, tmp_path: Path) -> None:
    file, notes = lazy(tmp_path, before="x[0, 0] != 13 or os._exit(1)")
    served = serve(file)
    first = pid(served)
    assert served.http.infer("lazy", {"x": np.full((1, 1), 13, np.float32)}).code() == "poison_item"
    eventually(lambda: pid(served) not in (None, first), "another worker")
    assert not is_lazy(served)
    assert sizes(notes, pid(served)) == [1, 2, 4, 6, 1]


def test_a_class_runs_nothing_that_nobody_declared(serve: Serve, tmp_path: Path) -> None:
    file, notes = lazy(tmp_path, "")
    served = serve(file)
    assert sizes(notes) == []
    assert states(served, "lazy") == ["configured", "loading", "ready"]
    assert is_lazy(served)


@pytest.mark.parametrize(("options", "ran"), [(", warm_up=True", [1, 2, 4, 6]), (", warm_up=False", [])])
def test_the_option_runs_zeros_or_nothing(serve: Serve, tmp_path: Path, options: str, ran: list[int]) -> None:
    file, notes = lazy(tmp_path, "" if ran else DECLARED, options=options)
    serve(file)
    assert sizes(notes) == ran


def test_the_configuration_switches_it_off(serve: Serve, tmp_path: Path) -> None:
    file, notes = lazy(tmp_path)
    settings = tmp_path / "settings.toml"
    settings.write_text("[models.lazy]\nwarm_up = false\n")
    serve(file, options=["--config", str(settings)])
    assert sizes(notes) == []


def test_a_declared_sample_that_fails_fails_the_load_and_the_old_version_serves_on(
    serve: Serve, tmp_path: Path
) -> None:
    file, _ = lazy(tmp_path)
    served = serve(file, options=EXPLICIT)
    old = pid(served)
    lazy(tmp_path, before="assert len(x) < 4, 'too many for me'")
    answer = load(served, "lazy")
    assert (answer.status, answer.code()) == (500, "load_failed")
    told = answer.json()["error"]
    assert "a sample of warm_up in a batch of 4 failed: AssertionError: too many for me; see lazy.py, line " in told
    assert pid(served) == old
    assert not is_lazy(served)
    assert "a newer load failed" in history(served, "lazy")[-1][1]


@pytest.mark.parametrize(
    ("warm_up", "text"),
    [
        ("def warm_up(self): return np.zeros((1, 2), np.float32)", "a sample of warm_up does not fit: input"),
        ("def warm_up(self): return {'y': 1}", 'a sample of warm_up does not fit: model "lazy" has no input "y"'),
        ("def warm_up(self): raise OSError('no samples')", "Lazy.warm_up() raised OSError: no samples"),
        ("def warm_up(self): return np.zeros((0, 1), np.float32)", "a sample of warm_up has no rows"),
    ],
)
def test_samples_that_are_none_fail_the_load(serve: Serve, tmp_path: Path, warm_up: str, text: str) -> None:
    file, _ = lazy(tmp_path, warm_up)
    cause = serve(file, "mortal.py:Mortal").model("lazy")["cause"]
    assert text in cause["message"]
    assert cause["next_step"]


def test_zeros_that_fail_are_noted_once_and_the_version_serves(serve: Serve, tmp_path: Path) -> None:
    file, notes = lazy(tmp_path, "", options=", warm_up=True", before="assert x.all(), 'a zero'")
    served = serve(file)
    assert served.model("lazy")["state"] == "ready"
    assert sizes(notes) == [1]
    noted = "the warm-up with zeros in a batch of 1 failed: AssertionError: a zero; requests are served"
    assert [state for state, message in history(served, "lazy") if message.startswith(noted)] == ["warming"]
    assert served.http.infer("lazy", X).status == 200
    assert served.stop() == 0  # the log is whole then
    assert sum(line["message"].startswith(noted) for line in served.log()) == 1


def test_a_death_in_the_warm_up_is_one_in_the_load(serve: Serve, tmp_path: Path) -> None:
    file, _ = lazy(tmp_path, before="os._exit(7)")
    served = serve(file, "mortal.py:Mortal")
    cause = served.model("lazy")["cause"]
    assert "ended by exit status 7 while it ran samples" in cause["message"]
    assert metric(served, "samovar_worker_restarts_total", model="lazy") == 5


def test_a_warm_up_that_hangs_ends_with_the_time_of_the_load(serve: Serve, tmp_path: Path) -> None:
    file, _ = lazy(tmp_path, options=", load_timeout_s=1", before="import time; time.sleep(600)")
    cause = serve(file, "mortal.py:Mortal").model("lazy")["cause"]
    assert "did not load and run its samples within 1 s" in cause["message"]


def test_a_version_that_warms_says_so_and_takes_no_requests(serve: Serve, tmp_path: Path) -> None:
    gate, socket = tmp_path / "gate", tmp_path / "admin" / "engine.sock"
    wait = f"import time\n        while not Path({str(gate)!r}).exists(): time.sleep(0.01)"
    file, notes = lazy(tmp_path, before=wait)
    served = serve(file, options=["--admin-socket", str(socket)], ready=False)
    eventually(lambda: sizes(notes) == [1], "the first sample runs")
    owner = Admin(str(socket))
    assert [model["state"] for model in owner.get("/admin/state")["models"]] == ["warming"]
    assert 'samovar_version_state{model="lazy",state="warming",version="1"} 1' in metrics_of(owner)
    assert owner.request("GET", "/v2/models/lazy/ready").json()["code"] == "not_ready"
    gate.touch()
    served.wait_ready()
    assert states(served, "lazy")[-1] == "ready"
    assert not is_lazy(served)


def metrics_of(owner: Admin) -> list[str]:
    return owner.request("GET", "/metrics").body.decode().splitlines()


@pytest.mark.parametrize("worker", ["own", "shared"])
def test_a_model_file_runs_zeros(serve: Serve, tmp_path: Path, worker: str) -> None:
    file = models.scale(tmp_path / "scale.onnx", width="any")
    served = serve(str(file), options=[*EXPLICIT, "--default-worker", worker])
    assert states(served, "scale") == ["configured", "loading", "warming", "ready"]
    assert served.http.infer("scale", {"x": np.ones((1, 3), np.float32)}).status == 200
    assert unload(served, "scale").status == 200


def test_a_failure_in_a_shared_worker_leaves_its_neighbours_alone(serve: Serve, tmp_path: Path) -> None:
    file, _ = lazy(tmp_path, before="raise OSError('not now')")
    served = serve(str(models.scale(tmp_path / "scale.onnx", width=1)), file, options=["--default-worker", "shared"])
    assert "OSError: not now" in served.model("lazy")["cause"]["message"]
    assert served.http.infer("scale", X).status == 200
