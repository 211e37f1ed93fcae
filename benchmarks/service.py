"""A typed service beside the same endpoint in bare FastAPI under uvicorn, one worker each."""

import json
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.comparison import CONNECTIONS, Plan, compare
from benchmarks.nginx import free_port
from benchmarks.wrk import post, write_script
from scripts.serving_process import engine

HERE = Path(__file__).parent
BODY = json.dumps({"items": [{"name": "tea", "price": 1.5}, {"name": "cup", "price": 2.25}], "note": "a gift"}).encode()
PATH = "/shop/total"


def typed_service(folder: Path, plan: Plan) -> dict[str, Any]:
    """Serve both at once and measure them in turn."""
    script = folder / "service.lua"
    write_script(script, BODY)
    began = time.monotonic()
    with (folder / "service.log").open("wb") as log, engine(HERE / "shop.py", output=log) as served:
        url = f"{served.url}{PATH}"
        answer = post(url, BODY)
        start_s = time.monotonic() - began
        with uvicorn() as peer:
            if json.loads(post(peer, BODY)) != json.loads(answer):
                raise SystemExit("FastAPI answers with something else than the service")
            rows = [compare({"samovar": url, "uvicorn": peer}, plan, script, count) for count in CONNECTIONS]
    return {"service_start_s": round(start_s, 3), "service": rows}


@contextmanager
def uvicorn() -> Iterator[str]:
    """The URL of the endpoint in FastAPI, under uvicorn at its fastest: uvloop, httptools, no access log."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.shop_fastapi:app", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=HERE.parent)
    url = f"http://127.0.0.1:{port}{PATH}"
    try:
        wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_for(url: str, process: "subprocess.Popen[bytes]", timeout_s: float = 30.0) -> None:
    """Return when the endpoint answers."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            post(url, BODY)
        except urllib.error.URLError:
            try:
                raise SystemExit(f"uvicorn ended with {process.wait(timeout=0.05)}")
            except subprocess.TimeoutExpired:
                continue
        return
    raise SystemExit("uvicorn does not answer")
