"""`python -m samovar`: a worker, the engine, or else the command line."""

import signal
import sys


def main() -> int:
    """Import only what the process needs."""
    if sys.argv[1:] != ["worker"]:
        end_quietly_on_interrupt()
    match sys.argv[1:]:
        case ["worker"]:
            from samovar.worker import main as run_worker

            run_worker()
            return 0
        case ["engine", descriptor] if descriptor.isdecimal():
            from samovar.server.engine import main as run_engine

            return run_engine(int(descriptor))
        case _:
            from samovar.cli import main as run_command

            return run_command()


def end_quietly_on_interrupt() -> None:
    """Let Ctrl-C end the process without a traceback until the data plane takes the signals.

    The command holds it back while the engine's process takes its place: see `samovar.cli.serve`.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


if __name__ == "__main__":
    sys.exit(main())
