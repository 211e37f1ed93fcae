"""How much there is of it: import, wheel, idle memory, time to the first answer."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import OURS, Plan, Sample
from benchmarks.peers.samovar import PEER
from benchmarks.work import ECHO, SHOP

ROOT = Path(__file__).parents[1]
TIMES_IMPORT = "import time; began = time.perf_counter(); import samovar; print(time.perf_counter() - began)"


def measure(plan: Plan) -> list[Sample]:
    """One start of each kind."""
    del plan
    figures = {"import_ms": round(_import_s() * 1e3, 1), "wheel_mb": _wheel_mb()}
    with tempfile.TemporaryDirectory() as folder, PEER.serve(ECHO, "json", Path(folder)) as running:
        figures["start_model_s"] = running.start_s
        time.sleep(1)  # the spare worker has started, nothing moves any more
        figures["engine_rss_mib"] = round(running.process.memory_info().rss / 2**20, 1)
        figures["all_rss_mib"] = running.idle_rss_mib
    with tempfile.TemporaryDirectory() as folder, PEER.serve(SHOP, "json", Path(folder)) as running:
        figures["start_service_s"] = running.start_s
    return [Sample("one model", OURS, figures)]


def _import_s() -> float:
    run = subprocess.run([sys.executable, "-c", TIMES_IMPORT], capture_output=True, text=True, check=True)
    return float(run.stdout)


def _wheel_mb() -> float:
    """Of the wheel in dist; 0 where `make wheel` has not built one."""
    wheels = sorted((ROOT / "dist").glob("samovar-*.whl"))
    return round(wheels[-1].stat().st_size / 1e6, 2) if wheels else 0.0
