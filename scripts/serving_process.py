"""Start `samovar serve` for a script, on a free port, and end it again."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class Engine:
    """A running engine whose start-up loads have ended."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def engine(
    target: Path,
    port: int = 0,
    output: IO[bytes] | None = None,
    log: IO[bytes] | None = None,
    timeout_s: float = 60.0,
) -> Iterator[Engine]:
    """Serve one target; the process gets SIGTERM at the end and must end with 0.

    What the start says goes to `output`, the log to `log`, or to `output` as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        command = [sys.executable, "-m", "samovar", "serve", str(target)]
        command += ["--http-port", str(port), "--grpc-port", "0", "--ready-file", str(ready)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SAMOVAR_")}
        process = subprocess.Popen(
            command,
            env=environment,
            process_group=0,  # Ctrl-C is for the script; the engine gets its one SIGTERM from here
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log or output,
        )
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the engine ends with the script
        try:
            yield Engine(f"http://127.0.0.1:{port_when_ready(process, ready, timeout_s)}", process)
        finally:
            end(process, timeout_s)
            signal.signal(signal.SIGTERM, before)
    if process.returncode != 0:
        raise SystemExit(f"the engine ended with {process.returncode}")


def end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """SIGTERM, and SIGKILL where that is not enough."""
    try:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=timeout_s)
    finally:
        process.kill()
        process.wait()


def port_when_ready(process: subprocess.Popen[bytes], ready: Path, timeout_s: float) -> int:
    """Wait for the ready file; leave the program if the engine ends first."""
    deadline = time.monotonic() + timeout_s
    while not ready.exists():
        try:
            raise SystemExit(f"the engine did not start: exit code {process.wait(timeout=0.02)}")
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise SystemExit(f"the engine was not ready within {timeout_s:g} s") from None
    return int(json.loads(ready.read_text())["ports"]["http"])
