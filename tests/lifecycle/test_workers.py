"""What workers are started with and may take: environment, threads, and their priority while they load."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import models
from owner import admin
from samovar.config import machine
from serving import APPS, Serve, Served
from watching import eventually, load

# Its answer is what the libraries of this process would use: OpenBLAS of numpy, and OpenMP by its variable.
THREADS = """
import ctypes
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

import samovar


class Found(NamedTuple):
    blas: Int64[np.ndarray, "1"]
    openmp: Int64[np.ndarray, "1"]


@samovar.model{options}
class Threads:
    def predict(self, x: Int64[np.ndarray, "1"]) -> Found:
        path = re.search(r"\\S+openblas\\S+", Path("/proc/self/maps").read_text())
        blas = ctypes.CDLL(path[0]).scipy_openblas_get_num_threads64_() if path else 0
        return Found(np.array([blas]), np.array([int(os.environ.get("OMP_NUM_THREADS", 0))]))
"""
PROCESSORS = machine.cpus()
MOST = 64  # that numpy's OpenBLAS was built for
HAS_QUOTA = len(os.sched_getaffinity(0)) > PROCESSORS
several = pytest.mark.skipif(PROCESSORS < 2, reason="on one processor every library has one thread")


def threads(served: Served) -> tuple[int, int]:
    found = served.http.infer("threads", {"x": np.ones(1, np.int64)}).arrays()
    return int(found["blas"][0]), int(found["openmp"][0])


def environment(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def nice(pid: int) -> set[int]:
    """The nice values of the threads of a process."""
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            found.add(os.getpriority(os.PRIO_PROCESS, int(thread.name)))
    return found


def test_workers_do_not_get_what_is_meant_for_the_engine(serve: Serve) -> None:
    own = {"SAMOVAR_MAX_REQUESTS": "7", "LISTEN_FDNAMES": "x", "OURS": "yes"}
    served = serve("echo.py:EchoFp32", environment=own)
    eventually(lambda: len(served.workers()) == 2, "one worker and the spare")
    for pid in served.workers():
        found = environment(pid)
        assert found["OURS"] == "yes"
        assert not [name for name in found if name.startswith(("SAMOVAR_", "LISTEN_", "NOTIFY_"))]


@several
@pytest.mark.parametrize(
    ("options", "said", "wanted"),
    [
        ("(instances=2)", None, (min(PROCESSORS // 2, MOST), PROCESSORS // 2)),
        ("(threads=1)", None, (1, 1)),
        ("", None, (min(PROCESSORS, MOST), PROCESSORS if HAS_QUOTA else 0)),
        ("(instances=2)", "2", (2, 2)),
    ],
    ids=["divided", "said", "all", "environment"],
)
def test_threads_of_libraries_are_divided_among_the_instances(
    serve: Serve,
    tmp_path: Path,
    options: str,
    said: str | None,
    wanted: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "threads.py"
    file.write_text(THREADS.format(options=options))
    served = serve(str(file), environment={"OMP_NUM_THREADS": said} if said else {})
    assert {threads(served) for _ in range(8)} == {wanted}


def test_a_load_beside_others_has_low_priority_until_it_takes_calls(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    attempt = "from samovar.worker.priority import _can_raise_again; print(_can_raise_again())"
    ran = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True, timeout=60, check=True)
    if ran.stdout.strip() != "True":
        pytest.skip("this process may not raise its priority again (CAP_SYS_NICE, RLIMIT_NICE)")
    normal = os.getpriority(os.PRIO_PROCESS, 0)
    gate = tmp_path / "gate"
    served = serve(
        "load_held.py", "echo.py:EchoFp32", options=["--control", "explicit"],
        environment={"GATED_FILE": str(gate)}, ready=False,
    )  # fmt: skip

    def loaders() -> list[int]:
        return [int(file.suffix[1:]) for file in tmp_path.glob("gate.*")]

    (first,) = eventually(loaders, "the load of the start")
    assert nice(first) == {normal}, "at the start it has no neighbours"
    gate.touch()
    served.wait_ready()
    gate.unlink()
    others = {
        int(instance["pid"]) for found in admin(served).get("/admin/state")["models"] for instance in found["instances"]
    }
    loading = background.submit(load, served, "gated")
    second = eventually(lambda: [pid for pid in loaders() if pid != first], "another load")[0]
    assert nice(second) == {min(normal + 10, 19)}
    assert nice(first) == {normal}
    (spare,) = eventually(lambda: set(served.workers()) - {first, second, *others}, "the spare")
    assert nice(spare) == {min(normal + 10, 19)}, "nobody waits for a spare"
    gate.touch()
    assert loading.result().status == 200

    def pids() -> list[int]:
        (version,) = [found for found in admin(served).get("/admin/state")["models"] if found["name"] == "gated"]
        return [instance["pid"] for instance in version["instances"]]

    assert pids() == [second]
    assert nice(second) == {normal}
    os.kill(second, signal.SIGKILL)
    eventually(lambda: pids() == [spare], "the spare takes over")
    assert nice(spare) == {normal}


def test_a_load_has_the_spare_import_what_it_would_need(serve: Serve, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    (repository / "echo").mkdir(parents=True)
    shutil.copy(APPS / "sum.py", repository / "echo" / "model.py")
    served = serve(str(repository), options=["--control", "explicit", "--spare-workers", "1"])
    held = {int(one["pid"]) for found in admin(served).get("/admin/state")["models"] for one in found["instances"]}
    (spare,) = eventually(lambda: set(served.workers()) - held, "the spare")
    models.scale(repository / "double" / "1" / "model.onnx")
    assert load(served, "double").status == 200
    eventually(lambda: "onnxruntime" in Path(f"/proc/{spare}/maps").read_text(), "the spare has imported it")
