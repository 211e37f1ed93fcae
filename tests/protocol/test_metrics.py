"""`/metrics`: the names and labels that dashboards are built on."""

import re

import numpy as np
import pytest

from serving import Serve, Served
from watching import eventually, metric

VERSION = {"model", "version"}
NAMES = {
    "samovar_requests_total": ("counter", VERSION | {"door", "code"}),
    "samovar_items_total": ("counter", VERSION),
    "samovar_batches_total": ("counter", VERSION),
    "samovar_batch_size": ("histogram", VERSION),
    "samovar_queue_items": ("gauge", VERSION),
    "samovar_queue_bytes": ("gauge", VERSION),
    "samovar_in_flight": ("gauge", VERSION),
    "samovar_stage_seconds": ("histogram", VERSION | {"stage"}),
    "samovar_request_seconds": ("histogram", VERSION),
    "samovar_rejected_total": ("counter", VERSION | {"reason"}),
    "samovar_cancelled_total": ("counter", VERSION | {"stage"}),
    "samovar_expired_total": ("counter", VERSION | {"stage"}),
    "samovar_retries_total": ("counter", VERSION),
    "samovar_worker_restarts_total": ("counter", VERSION | {"cause"}),
    "samovar_workers": ("gauge", VERSION),
    "samovar_load_seconds": ("gauge", VERSION),
    "samovar_version_state": ("gauge", VERSION | {"state"}),
    "samovar_process_cpu_seconds_total": (None, {"process"}),
    "samovar_process_resident_bytes": ("gauge", {"process"}),
}
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')


def text(served: Served) -> str:
    answer = served.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.body.decode()


def samples(served: Served) -> list[tuple[str, dict[str, str], float]]:
    """Every sample; fails on a line that is none."""
    found = []
    for line in text(served).splitlines():
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            labels = dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            found.append((match[1], labels, float(match[3])))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_metric_is_there_before_anything_happens_to_it(shared: Served, name: str) -> None:
    shared.http.infer("sum", {"a": np.ones((1, 1), np.float32), "b": np.ones((1, 1), np.float32)})
    kind, labels = NAMES[name]
    lines = text(shared).splitlines()
    assert sum(line.startswith(f"# HELP {name} ") for line in lines) == 1
    types = [line.split()[3] for line in lines if line.startswith(f"# TYPE {name} ")]
    assert len(types) == 1
    assert kind in (None, *types)
    suffix = "_count" if kind == "histogram" else ""
    found = [set(labelled) for sample, labelled, _ in samples(shared) if sample == name + suffix]
    assert found
    assert all(one == labels for one in found), found


def test_stages_are_those_of_a_request(shared: Served) -> None:
    stages = {labels["stage"] for name, labels, _ in samples(shared) if name == "samovar_stage_seconds_count"}
    assert stages == {"queue", "wait", "input", "compute", "output"}


def test_outcomes_are_counted_by_their_code(serve: Serve) -> None:
    served = serve("raising.py")
    x = np.ones((1, 1), np.float32)
    served.http.infer("raising", {"x": x})
    served.http.infer("raising", {"x": -x})
    served.http.infer("raising", {"y": x})
    served.http.request("POST", "/v2/models/raising/infer", b"no JSON")
    served.http.request("POST", "/v2/models/raising/versions/7/infer", b"{}")
    for n in range(50):
        served.http.infer(f"stranger{n}", {"x": x})
    counted = {
        (labels["model"], labels["version"], labels["code"]): value
        for name, labels, value in samples(served)
        if name == "samovar_requests_total"
    }
    assert counted.pop(("raising", "1", "ok")) == 1
    assert counted.pop(("raising", "1", "model_error")) == 1
    assert counted.pop(("raising", "1", "invalid_input")) == 1
    assert counted.pop(("raising", "1", "invalid_request")) == 1
    assert sum(counted.values()) == 51
    assert {model for model, _, _ in counted} <= {"", "raising"}  # no client makes a series
    assert len(counted) <= 3


def test_outcome_is_what_the_client_got(serve: Serve) -> None:
    served = serve("echo.py:EchoBytes")
    refused = served.http.infer_binary("echo_bytes", {"x": np.array([[b"\xff"]], object)}, binary_output=False)
    assert refused.status == 400  # found when the answer was written
    assert metric(served, "samovar_requests_total", code="invalid_request") == 1
    assert metric(served, "samovar_requests_total", code="ok") == 0


def test_processes_are_measured_by_what_they_run(shared: Served) -> None:
    resident = {labels["process"]: value for name, labels, value in samples(shared) if name.endswith("resident_bytes")}
    assert resident["engine"] > 1 << 20
    assert resident["sum/1/0"] > 1 << 20


def test_state_of_a_version_is_one_of_its_states(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", "loadfail.py", options=["--control", "explicit"])
    states = {"echo_fp32": "ready", "loadfail": "failed"}
    for model, state in states.items():
        assert metric(served, "samovar_version_state", model=model) == 1
        assert metric(served, "samovar_version_state", model=model, state=state) == 1
    assert metric(served, "samovar_load_seconds", model="echo_fp32") > 0
    served.http.request("POST", "/v2/repository/models/echo_fp32/unload")
    assert metric(served, "samovar_version_state", model="echo_fp32", state="unloaded") == 1
    eventually(lambda: metric(served, "samovar_workers", model="echo_fp32") == 0, "no worker is left")
