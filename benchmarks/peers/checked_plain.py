"""What every engine serves while it is harmed: an answer that tells whose it is, and who gave it.

A row of the input is FP64[8]: the id of a request, the seconds that it takes, a deed, five numbers. Its answer is
FP64[4]: the id, the sum of the numbers, the process, and the mark of the version.
"""

import os
import struct
import time
from itertools import repeat

import numpy as np

FAIR, SPIN, ABORT, GROW, GROW_AND_ABORT = range(5)
COLUMNS = 8
STEP = 64 << 20


def run(x: np.ndarray, mark: float = 0) -> np.ndarray:
    """Note who runs, in the file RUNS_FILE, sleep as long as the longest of the batch, do what it says, answer."""
    _note(x[:, 0])
    time.sleep(float(x[:, 1].max(initial=0.0)))
    for deed in x[:, 2]:
        _do(int(deed))
    sums = x[:, 3:].sum(axis=1)
    return np.column_stack([x[:, 0], sums, np.full_like(sums, os.getpid()), np.full_like(sums, mark)])


def _note(ids: np.ndarray) -> None:
    """Of each id a record of 16 bytes: the id, and when it began, in nanoseconds of CLOCK_MONOTONIC."""
    if "RUNS_FILE" not in os.environ:
        return
    now = time.monotonic_ns()
    file = os.open(os.environ["RUNS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, b"".join(struct.pack("<qq", int(each), now) for each in ids))
    os.close(file)


def _do(deed: int) -> None:
    if deed == SPIN:
        sum(repeat(0))  # a loop in C that never ends and never lets another thread run
    if deed == ABORT:
        os.abort()
    if deed in {GROW, GROW_AND_ABORT}:
        kept = []
        try:
            while True:
                kept.append(np.empty(STEP, np.uint8))  # address space, not touched
        except MemoryError:
            kept.clear()
            if deed == GROW_AND_ABORT:  # what code in C does that looks at no return value
                os.abort()
            raise
