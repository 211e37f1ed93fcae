"""SIGKILL of the engine: nothing is left, whatever its workers are doing."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lifecycle.load import Load
from serving import Serve, Served, both_transports
from watching import eventually, metric, pid_of, run, wait_begun


def named_memory(pids: list[int]) -> list[str]:
    """Mappings and descriptors of processes that have a name in /dev/shm."""
    found = []
    for pid in pids:
        found += [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/dev/shm" in line]
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("/dev/shm"):
                found.append(target)
    return found


def kill_and_look(served: Served) -> list[int]:
    """SIGKILL to the engine; what is left of it after a while."""
    everybody = served.processes()
    assert everybody
    served.process.kill()
    served.process.wait()
    return served.wait_gone(everybody) + served.processes()


@both_transports
def test_nothing_is_left_of_a_killed_engine_under_load(serve: Serve) -> None:
    served = serve("mortal.py:Mortal", "children.py")
    child = int(served.http.infer("children", {"x": np.zeros((1, 1), np.float32)}).arrays()["output"][0, 0])
    assert child in served.processes()
    with Load(served.http, "mortal", clients=4) as load:
        eventually(lambda: len(load.sent) > 20, "answers")
        assert kill_and_look(served) == []
    assert child not in served.processes()


def test_a_kernel_short_of_memory_ends_a_worker_and_not_the_engine(serve: Serve) -> None:
    served = serve("mortal.py:Mortal")

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    engine = score(served.pid)
    if engine == 1_000:
        pytest.skip("the engine has the greatest score already")
    assert score(pid_of(served, "mortal")) > engine
    eventually(lambda: all(score(pid) > engine for pid in served.workers()), "the spare one too")


def test_nothing_ever_has_a_name_in_shared_memory(serve: Serve) -> None:
    served = serve("big.py:Big")
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208 - the names alone
    x = np.arange(32 << 20, dtype=np.uint8)[None]
    np.testing.assert_array_equal(served.http.infer_binary("big", {"x": x}).arrays()["output"], x)
    assert named_memory([served.pid, *served.workers()]) == []
    worker_maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in served.workers())
    assert "memfd:samovar (deleted)" in worker_maps, "the tensors did travel in shared memory"
    assert kill_and_look(served) == []
    assert not {name for name in set(os.listdir("/dev/shm")) - before if "samovar" in name}  # noqa: PTH208 - as above


def test_a_worker_that_never_stops_printing_ends_with_its_engine(serve: Serve) -> None:
    served = serve("stubborn.py:Chatter", options=["--spare-workers", "0"])
    assert served.http.infer("chatter", {"x": np.zeros((1, 1), np.float32)}).status == 200
    assert kill_and_look(served) == []


@both_transports
def test_a_worker_that_keeps_the_interpreter_to_itself_ends_with_its_engine(
    serve: Serve, background: ThreadPoolExecutor
) -> None:
    served = serve("stubborn.py:Greedy", "mortal.py:Mortal")
    request = background.submit(served.http.infer, "greedy", {"seconds": np.array([[600.0]], np.float32)})
    eventually(lambda: metric(served, "samovar_in_flight", model="greedy") == 1, "it runs")
    assert kill_and_look(served) == []
    assert isinstance(request.exception(), OSError)


def test_a_stopped_worker_ends_with_its_engine(serve: Serve) -> None:
    # No spare: one that is stopped before it has asked for the parent-death signal has nobody to continue it.
    served = serve("mortal.py:Mortal", options=["--spare-workers", "0"])
    (pid,) = served.workers()
    os.kill(pid, signal.SIGSTOP)
    assert kill_and_look(served) == []


def test_a_worker_in_a_load_ends_with_its_engine(serve: Serve) -> None:
    served = serve("stubborn.py:Waiting", ready=False)
    eventually(lambda: "waiting: begun" in served.output(), "it loads")
    assert kill_and_look(served) == []


def test_clients_of_a_killed_engine_see_the_end_of_their_connection(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal")
    request = background.submit(run, served.http, "mortal", 2, 60.0)
    wait_begun(runs, 2)
    assert kill_and_look(served) == []
    assert isinstance(request.exception(timeout=5), OSError)
