"""examples/hello: served, and called by its own client."""

import subprocess
import sys
from pathlib import Path

from serving import Serve

HELLO = Path(__file__).parent.parent.parent / "examples" / "hello"


def test_hello_is_served_and_its_client_prints_unit_rows(serve: Serve) -> None:
    served = serve(str(HELLO / "model.py"))
    command = [sys.executable, str(HELLO / "call.py"), f"http://127.0.0.1:{served.port}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    assert printed.strip() == "[[0.6, 0.8], [0.0, 1.0]]"
