"""`make demo`: serve examples/hello, call it, say what to try next."""

import argparse
import contextlib
import runpy
import socket
from pathlib import Path

from scripts.serving_process import engine

HELLO = Path(__file__).parent.parent / "examples" / "hello"
NEXT = """
The engine stays up until Ctrl-C. Try, in a second terminal:

  curl {url}/v2/models/unit
  curl {url}/v2/models/unit/infer \\
    -d '{{"inputs": [{{"name": "rows", "datatype": "FP32", "shape": [1, 2], "data": [3, 4]}}]}}'
  curl {url}/v2/models/unit/infer -d '{{"inputs": []}}'                 # an error tells its cure
  curl -s {url}/metrics | grep samovar_requests_total
  pkill -KILL -f 'samovar worker'                    # then call again: the spare worker took over
"""


def main() -> None:
    """Serve, call, and stay unless told otherwise."""
    arguments = parse()
    port = arguments.port
    if port is None:
        port = 0 if arguments.once else preferred(8000)
    with engine(HELLO / "model.py", port) as served:
        client = runpy.run_path(str(HELLO / "call.py"))
        print(f"\nexamples/hello/call.py sends {client['ROWS']}")
        print(f"the model answers            {client['call'](served.url)}", flush=True)
        if not arguments.once:
            print(NEXT.format(url=served.url), flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                served.process.wait()


def preferred(port: int) -> int:
    """This port if it is free, else 0 for any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return 0 if probe.connect_ex(("127.0.0.1", port)) == 0 else port


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the call")
    parser.add_argument("--port", type=int, help="where to listen (8000 if that is free)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
