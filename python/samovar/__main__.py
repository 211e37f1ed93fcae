"""`python -m samovar`: a worker, the engine, or else the command line."""

import sys


def main() -> int:
    """Import only what the process needs."""
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


if __name__ == "__main__":
    sys.exit(main())
