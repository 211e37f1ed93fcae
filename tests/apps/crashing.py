"""Dies right after every load, as long as the file CRASHING_FILE exists; its process id is in CRASHING_FILE.pid."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
from jaxtyping import Float32

import samovar


def die_soon() -> None:
    """The load has been answered by then."""
    time.sleep(0.05)
    print("crashing: the end", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


@samovar.model
class Crashing:
    """Echo, if it lives."""

    def load(self) -> None:
        Path(os.environ["CRASHING_FILE"] + ".pid").write_text(str(os.getpid()))
        if Path(os.environ["CRASHING_FILE"]).exists():
            threading.Thread(target=die_soon, daemon=True).start()

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return x
