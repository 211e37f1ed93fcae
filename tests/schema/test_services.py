"""What a service says of itself and what it does are the same: schemathesis finds nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving import Serve

HOOKS = Path(__file__).parent / "hooks.py"
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SEED = os.environ.get("SCHEMA_SEED", "0")
EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "50")


@pytest.mark.timeout(300)  # for the EXAMPLES of who searches on
@pytest.mark.parametrize(
    ("service", "accepted"),
    [("orders", "*/*"), ("photos", "*/*"), ("feeds", "*/*"), ("feeds", "text/event-stream")],
)
def test_schemathesis_finds_nothing(serve: Serve, tmp_path: Path, service: str, accepted: str) -> None:
    served = serve(f"{service}.py")
    address = f"http://127.0.0.1:{served.port}/{service}/openapi.json"
    options = ["--header", f"Accept:{accepted}", "--seed", SEED, "--max-examples", EXAMPLES, "--checks", "all"]
    options += ["--phases", "examples,coverage,fuzzing,stateful", "--generation-database", "none", "--no-color"]
    found = subprocess.run(
        [SCHEMATHESIS, "run", address, *options],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
