"""What user code measures with prometheus_client stands on `/metrics` beside what the engine measures."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from http_door import Answer
from serving import Serve, Served
from watching import eventually, metric


def samples(served: Served, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """The samples of this name by their labels; every scrape is read by the library's own parser."""
    text = served.http.get("/metrics").body.decode()
    families = list(text_string_to_metric_families(text))
    found = [sample for family in families for sample in family.samples if sample.name == name]
    by_labels = {frozenset(sample.labels.items()): sample.value for sample in found}
    assert len(by_labels) == len(found), f"a series stands there twice: {found}"
    return by_labels


def labels(model: str, instance: int = 0, **more: str) -> frozenset[tuple[str, str]]:
    return frozenset({"model": model, "version": "1", "instance": str(instance), **more}.items())


def run(served: Served, model: str, *rows: float) -> Answer:
    return served.http.infer(model, {"x": np.array(rows, np.float32)[:, None]})


def test_every_sample_names_its_model_version_and_instance(serve: Serve) -> None:
    served = serve("measuring.py:Reader", "measuring.py:Writer")
    run(served, "reader", 1, 2)
    run(served, "writer", 0.25)
    pages = samples(served, "pages_total")
    assert set(pages) == {labels("reader", 0), labels("reader", 1), labels("writer")}
    assert pages[labels("reader", 0)] + pages[labels("reader", 1)] == 2
    assert pages[labels("writer")] == 1
    bucket = samples(served, "page_seconds_bucket")
    assert bucket[labels("writer", kind="write", le="0.5")] == 1
    assert sum(value for key, value in bucket.items() if {("model", "reader"), ("le", "+Inf")} <= key) == 2
    assert samples(served, "page_seconds_sum")[labels("writer", kind="write")] == 0.25


def test_family_stands_there_once_however_many_workers_have_it(serve: Serve) -> None:
    served = serve("measuring.py:Reader", "measuring.py:Writer")
    lines = served.http.get("/metrics").body.decode().splitlines()
    assert lines.count(r'# HELP pages_total Pages that were "read"\nor written') == 1
    assert lines.count("# TYPE pages_total counter") == 1
    assert lines.count("# TYPE page_seconds histogram") <= 1
    assert lines.count("# TYPE pages_created gauge") == 1
    at = lines.index("# TYPE pages_total counter")
    assert all(line.startswith("pages_total{model=") for line in lines[at + 1 : at + 4])


def test_label_of_user_code_gives_way_to_the_engines(serve: Serve) -> None:
    served = serve("measuring.py:Writer")
    run(served, "writer", 1)
    counted = samples(served, "models_total")
    assert counted == {labels("writer", exported_model='a "write"', path=r"C:\new"): 1}


def test_what_the_library_measures_of_a_process_is_left_to_the_engine(serve: Serve) -> None:
    served = serve("measuring.py:Writer")
    names = {line.split("{")[0] for line in served.http.get("/metrics").body.decode().splitlines()}
    assert "pages_total" in names
    assert not [name for name in names if name.startswith(("process_", "python_"))]
    assert metric(served, "samovar_process_resident_bytes", process="writer/1/0") > 0


def test_names_that_cannot_stand_there_are_counted_and_told_once(serve: Serve) -> None:
    served = serve("measuring.py:Reader", "measuring.py:Writer")
    for _ in range(3):
        assert samples(served, "samovar_mine") == {}
    assert samples(served, "depth") == {labels("reader", 0): 3, labels("reader", 1): 3}
    dropped = "samovar_user_samples_dropped_total"
    assert metric(served, dropped, model="reader", reason="reserved") >= 6
    assert metric(served, dropped, model="writer", reason="type_conflict") >= 3
    assert metric(served, dropped, reason="malformed") == 0
    assert served.stop() == 0  # the log is whole
    told = [line["message"] for line in served.log() if "left out of /metrics" in line.get("message", "")]
    assert sum("samovar_mine" in line for line in told) == 2  # one per instance
    assert sum("depth_count" in line for line in told) == 1
    assert len(told) == 3


def test_metrics_that_cannot_be_collected_cost_nobody_else_theirs(serve: Serve) -> None:
    served = serve("measuring.py:Broken", "measuring.py:Writer")
    for _ in range(2):
        assert set(samples(served, "pages_total")) == {labels("writer")}
    assert served.stop() == 0
    told = [line for line in served.log() if "could not be collected" in line.get("message", "")]
    assert [(line["model"], "no sensor" in line["message"]) for line in told] == [("broken", True)]


@pytest.fixture
def hold(tmp_path: Path) -> Callable[[], int]:
    """Make the pipe HOLD; the function waits for a call that reads it, which goes on when that descriptor is closed."""
    path = tmp_path / "hold"
    os.mkfifo(path)

    def opened() -> int:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            return 0

    return lambda: eventually(opened, "a call is held")


@pytest.mark.parametrize("model", ["Reader", "Writer"])
def test_busy_worker_does_not_hold_up_a_scrape(
    serve: Serve, tmp_path: Path, hold: Callable[[], int], background: ThreadPoolExecutor, model: str
) -> None:
    served = serve(f"measuring.py:{model}", environment={"HOLD": str(tmp_path / "hold")})
    name = model.lower()
    run(served, name, 1)
    assert metric(served, "pages_total", model=name) == 1
    answer = background.submit(run, served, name, -1)
    held = hold()
    for _ in range(20):  # what it told last, and the worker is not asked again and again
        assert metric(served, "pages_total", model=name) == 1
    os.close(held)
    assert answer.result().status == 200
    eventually(lambda: metric(served, "pages_total", model=name) == 2, "the worker tells again")


def test_what_a_dead_worker_told_is_forgotten(serve: Serve) -> None:
    served = serve("measuring.py:Writer", options=["--spare-workers", "0"])
    run(served, "writer", 1)
    assert samples(served, "pages_total") == {labels("writer"): 1}
    (pid,) = served.workers()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: samples(served, "pages_total") == {labels("writer"): 0}, "the next worker tells")
