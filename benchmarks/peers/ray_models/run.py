"""Starts Ray with one application and waits: `python run.py MODULE PORT [DEADLINE_S]`; the module lies beside this."""

import importlib
import sys
import tempfile

import ray
from ray import serve


def main() -> None:
    """Until SIGTERM, which Ray turns into SystemExit."""
    app = importlib.import_module(sys.argv[1]).app
    # Ray's Unix sockets lie 60 characters deeper, and the path of one may have 107.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        try:
            deadline = {"request_timeout_s": float(sys.argv[3])} if sys.argv[3:] else {}
            serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2]), **deadline})
            serve.run(app, blocking=True)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
