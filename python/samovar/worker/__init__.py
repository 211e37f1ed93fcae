"""The worker process: it holds one instance of a version and answers the engine.

Started as `python -m samovar worker`, with the set-up socket as descriptor 0 and pipes as 1 and 2.
"""

import faulthandler
import signal
import sys

from samovar.config import machine
from samovar.worker.lines import TaggedStream
from samovar.worker.loop import Worker
from samovar.worker.threads import limit_threads

__all__ = ["main"]


def main() -> None:
    """Serve the engine until it wants this process to end."""
    from samovar import _core

    # Ctrl-C goes to the whole terminal group; the engine decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_threads(machine.cpus())
    channel = _core.WorkerChannel()
    sys.stdout = TaggedStream.over(sys.stdout)
    sys.stderr = TaggedStream.over(sys.stderr)
    faulthandler.enable()
    Worker(channel).run()
    sys.stdout.flush()
