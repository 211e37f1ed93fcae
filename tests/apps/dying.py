"""A death by input."""

import os
import signal
import sys

import numpy as np
from jaxtyping import Int32

import samovar


@samovar.model
class Dying:
    """0 answers; 1 `os._exit(3)`; 2 SIGSEGV; 3 SIGKILL; 4 `sys.exit`, an exception; 5 `os._exit(0)`; 6 abort()."""

    def predict(self, how: Int32[np.ndarray, "batch 1"]) -> Int32[np.ndarray, "batch 1"]:
        kinds = set(how.ravel().tolist())
        if 1 in kinds:
            os._exit(3)
        if 2 in kinds:
            os.kill(os.getpid(), signal.SIGSEGV)
        if 3 in kinds:
            os.kill(os.getpid(), signal.SIGKILL)
        if 4 in kinds:
            sys.exit(4)
        if 5 in kinds:
            os._exit(0)
        if 6 in kinds:
            os.abort()
        return how
