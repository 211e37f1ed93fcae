"""A model that keeps its inputs keeps its own bytes, and cannot change anybody's."""

from pathlib import Path

import numpy as np
import pytest

from serving import Serve, Served
from watching import eventually, metric


def seen(served: Served, value: float, count: int) -> list[float]:
    """Send an array of `count` equal numbers; what the model sees now in every array that it has kept."""
    x = np.full((1, count), value, np.float32)
    kept: list[float] = served.http.infer_binary("keeper", {"x": x}).arrays()["output"][0].tolist()
    return kept


@pytest.mark.parametrize(("transport", "count"), [("shm", 3), ("shm", 5_000), ("shm", 400_000), ("inline", 5_000)])
def test_a_kept_input_never_becomes_another_requests(serve: Serve, count: int) -> None:
    served = serve("keeper.py:Keeper", "keeper.py:Forgetter")
    for calls in range(1, 21):
        assert seen(served, float(calls), count) == [number * count for number in range(1, calls + 1)]


def test_inputs_kept_for_one_call_do_not_change_in_it(serve: Serve) -> None:
    served = serve("keeper.py:Forgetter")
    before = 0.0
    for number in range(1, 101):
        x = np.full((1, 10_000), number, np.float32)
        answer = served.http.infer_binary("forgetter", {"x": x}).arrays()["output"]
        assert answer.tolist() == [[before]]
        before = float(number * 10_000)


def test_inputs_kept_beyond_the_limit_are_copies_with_one_warning(serve: Serve) -> None:
    served = serve("keeper.py:Keeper")
    count = 10 << 20  # 40 MiB each; the limit is 256 MiB
    for calls in range(1, 13):
        assert seen(served, float(calls), count) == [number * count for number in range(1, calls + 1)]
    warnings = eventually(
        lambda: [line for line in served.log() if line.get("model") == "keeper" and "256 MiB" in str(line)], "a warning"
    )
    assert len(warnings) == 1
    assert metric(served, "samovar_worker_restarts_total", model="keeper") == 0


def test_inputs_are_read_only_unless_the_model_asks_for_writable_ones(serve: Serve) -> None:
    served = serve("writing.py")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    refused = served.http.infer("read_only", {"x": x})
    assert (refused.status, refused.code()) == (500, "model_error")
    assert "read-only" in refused.json()["error"]
    np.testing.assert_array_equal(served.http.infer("writable", {"x": x}).arrays()["output"], x + 1)


def test_a_worker_cannot_write_where_requests_stand(serve: Serve) -> None:
    served = serve("big.py:Big", options=["--spare-workers", "0"])
    x = np.ones((1, 1 << 20), np.uint8)
    assert served.http.infer_binary("big", {"x": x}).status == 200
    (worker,) = served.workers()
    segments = [line.split()[1] for line in Path(f"/proc/{worker}/maps").read_text().splitlines() if "memfd" in line]
    assert sorted(set(segments)) == ["r--s", "rw-s"], "requests to be read, answers to be written"
