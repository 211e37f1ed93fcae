"""How many threads the libraries of numbers in this process may use.

Their own default is one per processor of the machine, whatever a control group allows and however many workers there
are.
"""

import os
import re
from pathlib import Path
from typing import Any

__all__ = ["limit_threads"]

# What OpenBLAS, MKL and torch read too when they are loaded, behind variables of their own.
_VARIABLE = "OMP_NUM_THREADS"
_LIBRARY = re.compile(r"\S*/lib[\w.-]*(?:openblas|mkl_rt|gomp|iomp5|omp)[\w.-]*\.so\S*")
_SETTERS = (
    "scipy_openblas_set_num_threads64_",  # in the wheels of numpy and scipy
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
    "MKL_Set_Num_Threads",
    "omp_set_num_threads",  # of the thread that calls it, which is the one that runs predict
)
_ours: list[str] = []  # the value that was set here, if one was


def limit_threads(most: int) -> None:
    """Let libraries use so many threads, those that are loaded already and those that will be.

    What the environment says stands above it, and what the libraries would not exceed anyway is left to them.
    """
    said = os.environ.get(_VARIABLE)
    if (said is not None and [said] != _ours) or (said is None and most >= len(os.sched_getaffinity(0))):
        return
    _ours[:] = [str(most)]
    os.environ[_VARIABLE] = str(most)
    for library in set(_LIBRARY.findall(Path("/proc/self/maps").read_text("utf-8", "replace"))):
        _set_threads(library, most)


def _set_threads(path: str, most: int) -> None:
    import ctypes

    try:
        library: Any = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
    except OSError:
        return  # its file has been replaced since it was loaded
    for name in _SETTERS:
        if hasattr(library, name):
            getattr(library, name)(ctypes.c_int(most))
