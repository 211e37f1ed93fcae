"""Measure the engine's own cost beside what others would use: nginx for HTTP itself, FastAPI for typed services.

`make bench` or `make bench QUICK=1`; method and reading: benchmarks/README.md.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.comparison import CONNECTIONS, Plan, compare, errors, table
from benchmarks.hops import hops, hops_table
from benchmarks.nginx import nginx
from benchmarks.service import typed_service
from benchmarks.wrk import post, write_script
from scripts.serving_process import engine

HERE = Path(__file__).parent
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [i / 8 for i in range(16)]}]}
).encode()
QUICK = Plan(rounds=3, seconds=2)
FULL = Plan(rounds=7, seconds=8)


def main() -> None:
    """Measure, print tables, leave a file; fail on any answer that is not a success."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a run of about a minute")
    plan = QUICK if parser.parse_args().quick else FULL
    os.environ["PATH"] += ":/usr/sbin"  # where Debian has nginx
    for tool in ("wrk", "nginx"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed; `make packages` installs it")
    with tempfile.TemporaryDirectory() as folder:
        found = {**echo(Path(folder), plan), **typed_service(Path(folder), plan), "hops": hops(plan)}
    print(table("echo FP32[1,16], JSON over HTTP", found["echo_json"]))
    print(f"start to first answer {found['start_s']:.2f} s, engine idle {found['engine_idle_mib']} MiB\n")
    print(table("typed service, JSON, one worker each", found["service"]))
    print(f"start to first answer {found['service_start_s']:.2f} s\n")
    print(hops_table(found["hops"]))
    print(f"written to {write({'machine': machine.describe(), **found}).relative_to(HERE.parent)}")
    failed = errors(found["echo_json"]) + errors(found["service"])
    if failed:
        raise SystemExit(f"{failed} requests failed")


def echo(folder: Path, plan: Plan) -> dict[str, Any]:
    """Serve the echo model and nginx at once and measure them in turn."""
    script = folder / "post.lua"
    write_script(script, BODY)
    began = time.monotonic()
    with (folder / "engine.log").open("wb") as log, engine(HERE / "echo.py", output=log) as served:
        url = f"{served.url}/v2/models/echo/infer"
        answer = post(url, BODY)
        start_s = time.monotonic() - began
        idle_mib = machine.resident_mib(served.process.pid)
        with nginx(folder, answer) as peer:
            if post(peer, BODY) != answer:
                raise SystemExit("nginx answers with other bytes than the engine")
            rows = [compare({"samovar": url, "nginx": peer}, plan, script, count) for count in CONNECTIONS]
    return {"start_s": round(start_s, 3), "engine_idle_mib": idle_mib, "body_bytes": len(answer), "echo_json": rows}


def write(found: dict[str, Any]) -> Path:
    """Keep the figures beside what they were measured on."""
    folder = HERE / "results" / "local"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    return path


if __name__ == "__main__":
    main()
