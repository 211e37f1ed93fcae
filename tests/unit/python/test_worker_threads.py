"""How many threads the libraries of a worker are told to use."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os, re
from pathlib import Path
import numpy
from samovar.worker.threads import limit_threads

def blas():
    path = re.search(r"\\S+openblas\\S+", Path("/proc/self/maps").read_text())
    return ctypes.CDLL(path[0]).scipy_openblas_get_num_threads64_()

for most in (processors, 1, 1):
    limit_threads(most)
    print(blas(), os.environ.get("OMP_NUM_THREADS"))
"""
PROCESSORS = len(os.sched_getaffinity(0))


def told(**environment: str) -> list[str]:
    """Threads of OpenBLAS and the variable, after the limits above."""
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    ran = subprocess.run(
        [sys.executable, "-c", f"processors = {PROCESSORS}\n{PROGRAM}"],
        env={**inherited, **environment}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return ran.stdout.splitlines()


@pytest.mark.skipif(PROCESSORS < 2, reason="on one processor every library has one thread")
def test_libraries_get_less_than_all_processors_and_the_environment_has_the_last_word() -> None:
    all_of_them, *fewer = told()
    assert all_of_them != "1 None"
    assert all_of_them.endswith(" None")
    assert fewer == ["1 1", "1 1"]
    assert told(OMP_NUM_THREADS="2") == ["2 2"] * 3
