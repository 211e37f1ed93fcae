"""Two things at once: deaths, loads, unloads and stops that meet each other."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lifecycle.load import Load
from serving import Serve, both_transports
from watching import (
    entry,
    eventually,
    is_ready,
    keys_in,
    load,
    metric,
    pid_of,
    run,
    unload,
    value,
    wait_begun,
    wait_unloaded,
)

EXPLICIT = ["--control", "explicit"]


def test_a_request_in_several_batches_survives_a_death(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal")
    pid = pid_of(served, "mortal")
    key = np.arange(1000, 1200, dtype=np.int64)[:, None]
    seconds = np.full((200, 1), 0.3, np.float32)
    waiting = background.submit(served.http.infer, "mortal", {"key": key, "seconds": seconds})
    eventually(lambda: len(keys_in(runs)) > 64, "its second batch runs")
    os.kill(pid, signal.SIGKILL)
    np.testing.assert_array_equal(waiting.result().arrays()["double"], key * 2)


@both_transports
def test_concurrent_calls_of_an_async_model_survive_a_death(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    file = tmp_path / "hooks"
    served = serve("hooks.py:AsyncHooks", options=["--spare-workers", "0"], environment={"HOOKS_FILE": str(file)})
    seconds = {"seconds": np.array([[0.5]], np.float32)}
    answers = [background.submit(served.http.infer, "async_hooks", seconds) for _ in range(4)]
    eventually(lambda: file.read_text().count("begun") == 4, "four calls run")
    os.kill(served.workers()[0], signal.SIGKILL)
    assert [answer.result().status for answer in answers] == [200] * 4
    assert file.read_text().count("begun") == 8


def test_a_death_while_the_engine_drains_costs_no_answer(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal")
    pid = pid_of(served, "mortal")
    running = background.submit(run, served.http, "mortal", 2, 0.5)
    wait_begun(runs, 2)
    served.process.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in served.output(), "it drains")
    os.kill(pid, signal.SIGKILL)
    assert value(running.result(), "double") == 4
    assert served.process.wait(10) == 0


def test_a_death_while_a_model_drains_ends_the_unload_at_once(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:MortalOnce", "mortal.py:Mortal", options=EXPLICIT)
    pid = pid_of(served, "mortal_once")
    running = background.submit(run, served.http, "mortal_once", 2, 60.0)
    wait_begun(runs, 2)
    unloading = background.submit(unload, served, "mortal_once")
    eventually(lambda: entry(served, "mortal_once")["state"] == "UNLOADING", "it drains")
    os.kill(pid, signal.SIGKILL)
    assert (running.result().status, running.result().code()) == (503, "worker_lost")
    assert unloading.result().status == 200
    wait_unloaded(served, "mortal_once")


def test_a_death_of_every_instance_at_once_costs_no_answer(serve: Serve) -> None:
    served = serve("mortal.py:MortalPair", options=["--spare-workers", "0"])
    with Load(served.http, "mortal_pair", clients=6) as clients:
        for _ in range(3):
            pids = served.workers()
            assert len(pids) == 2
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            assert served.wait_gone(pids) == []
            count = len(clients.sent)
            eventually(lambda: len(clients.sent) > count + 20, "answers again")  # noqa: B023 - called at once
            eventually(lambda: len(served.workers()) == 2, "both are back")
            eventually(lambda: metric(served, "samovar_workers", model="mortal_pair") == 2, "both have loaded")
    assert clients.wrong() == []


def test_loads_of_one_model_at_a_time_all_succeed(serve: Serve, background: ThreadPoolExecutor) -> None:
    served = serve("mortal.py:Mortal", options=EXPLICIT)
    with Load(served.http, "mortal", clients=2) as clients:
        loads = [background.submit(load, served, "mortal") for _ in range(4)]
        assert [answer.result().status for answer in loads] == [200] * 4
    assert clients.wrong() == []
    eventually(lambda: len(served.workers()) == 2, "one worker and the spare are left")
    assert is_ready(served, "mortal")


def test_an_unload_during_a_load_ends_unloaded(serve: Serve, tmp_path: Path, background: ThreadPoolExecutor) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    served = serve("load_held.py", "mortal.py:Mortal", options=EXPLICIT, environment={"GATED_FILE": str(gate)})
    gate.unlink()
    loading = background.submit(load, served, "gated")
    eventually(lambda: len(list(tmp_path.glob("gate.*"))) == 2, "the new version loads")
    assert unload(served, "gated").status == 200
    assert loading.result().status == 500
    wait_unloaded(served, "gated")
    eventually(lambda: len(served.workers()) == 2, "the other model's worker and the spare are left")
    gate.touch()
    assert load(served, "gated").status == 200
    assert is_ready(served, "gated")


def test_an_unload_between_two_starts_of_a_dying_worker_ends_unloaded(serve: Serve, tmp_path: Path) -> None:
    crashing = tmp_path / "crashing"
    crashing.touch()
    environment = {"CRASHING_FILE": str(crashing)}
    served = serve("crashing.py", "mortal.py:Mortal", options=EXPLICIT, environment=environment)
    eventually(lambda: not is_ready(served, "crashing"), "it waits for its next start")
    assert unload(served, "crashing").status == 200
    wait_unloaded(served, "crashing")
    eventually(lambda: len(served.workers()) == 2, "the other model's worker and the spare are left")


@pytest.mark.parametrize("strict", [False, True])
def test_an_unloaded_model_does_not_count_for_readiness(serve: Serve, strict: bool) -> None:
    options = [*EXPLICIT, *(["--strict-readiness"] if strict else [])]
    served = serve("mortal.py:Mortal", "echo.py:EchoFp32", options=options)
    assert unload(served, "mortal").status == 200
    wait_unloaded(served, "mortal")
    assert is_ready(served)


def test_a_worker_that_leaves_while_idle_is_replaced(serve: Serve) -> None:
    served = serve("mortal.py:Mortal")
    pids = set()
    for _ in range(3):
        pid = pid_of(served, "mortal")
        pids.add(pid)
        os.kill(pid, signal.SIGTERM)
        assert served.wait_gone([pid]) == []
    assert pid_of(served, "mortal") not in pids
