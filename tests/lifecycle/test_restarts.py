"""How a dead worker is replaced, and how often."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lifecycle.load import Load
from serving import APPS, Serve, Served, both_transports
from watching import entry, eventually, is_ready, load, metric, pid_of, run

X = {"x": np.ones((1, 1), np.float32)}


def spare_of(served: Served, model: str) -> int:
    """The worker that holds nothing yet."""
    busy = pid_of(served, model)
    return eventually(lambda: next((pid for pid in served.workers() if pid != busy), 0), "a spare worker")


@both_transports
def test_the_spare_worker_takes_over(serve: Serve) -> None:
    served = serve("mortal.py:Mortal")
    spare = spare_of(served, "mortal")
    for _ in range(2):
        os.kill(pid_of(served, "mortal"), signal.SIGKILL)
        assert pid_of(served, "mortal") == spare
        spare = spare_of(served, "mortal")
    assert len(served.workers()) == 2


def test_without_a_spare_a_fresh_worker_is_started(serve: Serve) -> None:
    served = serve("mortal.py:Mortal", options=["--spare-workers", "0"])
    worker = pid_of(served, "mortal")
    assert served.workers() == [worker]
    os.kill(worker, signal.SIGKILL)
    fresh = pid_of(served, "mortal")
    assert served.workers() == [fresh] != [worker]


def test_a_spare_that_died_is_no_obstacle(serve: Serve) -> None:
    served = serve("mortal.py:Mortal")
    spare, worker = spare_of(served, "mortal"), pid_of(served, "mortal")
    os.kill(spare, signal.SIGKILL)
    assert served.wait_gone([spare]) == []
    os.kill(worker, signal.SIGKILL)
    assert pid_of(served, "mortal") not in {spare, worker}


def test_a_model_without_a_live_instance_is_degraded_then_not_ready_then_back(serve: Serve, tmp_path: Path) -> None:
    crashing = tmp_path / "crashing"
    options = ["--strict-readiness"]
    served = serve("crashing.py", "echo.py:EchoFp32", options=options, environment={"CRASHING_FILE": str(crashing)})
    assert is_ready(served, "crashing")
    assert is_ready(served)
    crashing.touch()
    worker = int((tmp_path / "crashing.pid").read_text())
    os.kill(worker, signal.SIGKILL)  # restarts at once, into the loop: 0.1, 0.5, then 2 s
    eventually(lambda: not is_ready(served, "crashing"), "not ready while it waits for the next start")
    assert not is_ready(served), "strict readiness is every model's"
    assert entry(served, "crashing")["state"] == "UNAVAILABLE"
    assert "SIGKILL" in entry(served, "crashing")["reason"]
    assert served.http.get("/v2/models/crashing/ready").json()["code"] == "not_ready"
    assert is_ready(served, "echo_fp32")
    crashing.unlink()
    assert served.http.infer("crashing", X).status == 200, "a request waits for the restart"
    assert is_ready(served, "crashing")
    assert is_ready(served)


@pytest.mark.timeout(90)
def test_a_crash_loop_backs_off_and_fails_its_model_alone(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    crashing = tmp_path / "crashing"
    crashing.touch()
    neighbour_file = tmp_path / "mortal.py"
    neighbour_file.write_text((APPS / "mortal.py").read_text())
    served = serve(
        "crashing.py",
        f"{neighbour_file}:Mortal",
        options=["--control", "explicit"],
        environment={"CRASHING_FILE": str(crashing)},
    )
    neighbour = pid_of(served, "mortal")
    dies_in_load = "class Mortal:\n    def load(self) -> None:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    neighbour_file.write_text(neighbour_file.read_text().replace("class Mortal:\n", dies_in_load))
    began = time.monotonic()
    with Load(served.http, "mortal", clients=2) as clients:
        reload = background.submit(load, served, "mortal")  # its deaths have the same waits
        eventually(lambda: metric(served, "samovar_version_state", model="crashing", state="failed"), "it has failed")
        assert time.monotonic() - began > 6, "waits of 0.1, 0.5, 2 and 5 s"
        assert (reload.result().status, reload.result().code()) == (500, "load_failed")
    assert "SIGKILL" in reload.result().json()["error"]
    assert clients.wrong() == []
    assert pid_of(served, "mortal") == neighbour
    assert metric(served, "samovar_worker_restarts_total", model="crashing", cause="signal") == 5
    answer = served.http.infer("crashing", X)
    assert (answer.status, answer.code()) == (503, "model_failed")
    assert "SIGKILL" in answer.json()["error"]
    assert is_ready(served), "the engine itself is"
    failed = [line for line in served.log() if line.get("next_step") and line.get("model") == "crashing"]
    assert failed
    assert "crashing: the end" in failed[-1]["stderr"]
    crashing.unlink()
    assert load(served, "crashing").status == 200, "a retry on demand"
    assert served.http.infer("crashing", X).status == 200


def test_a_finished_call_starts_the_count_of_deaths_anew(serve: Serve) -> None:
    served = serve("mortal.py:Mortal")
    for _ in range(7):
        os.kill(pid_of(served, "mortal"), signal.SIGKILL)
    assert run(served.http, "mortal", 1).status == 200
