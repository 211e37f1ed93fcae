"""Triton's statistics: totals that clients divide, so every number of them must add up."""

import json
import time
from typing import Any

import numpy as np

from protocol.gates import Begin, row
from serving import Serve, Served
from watching import eventually, metric

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")
X = {"x": np.ones((3, 2), np.float32)}


def statistics(served: Served, path: str) -> list[dict[str, Any]]:
    answer = served.http.get(path)
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["model_stats"]
    return found


def of(served: Served, model: str) -> dict[str, Any]:
    (found,) = statistics(served, f"/v2/models/{model}/stats")
    return found


def test_a_request_is_counted_with_its_rows_and_its_time(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32")
    before = of(served, "echo_fp32")
    assert (before["inference_count"], before["execution_count"], before["last_inference"]) == (0, 0, 0)
    assert before["inference_stats"]["success"] == {"count": 0, "ns": 0}
    assert before["batch_stats"] == before["memory_usage"] == []
    began = time.time_ns()
    for _ in range(2):
        assert served.http.infer("echo_fp32", X).status == 200
    took = time.time_ns() - began
    after = of(served, "echo_fp32")
    assert (after["name"], after["version"]) == ("echo_fp32", "1")
    assert (after["inference_count"], after["execution_count"]) == (6, 2)
    assert began // 10**6 <= after["last_inference"] <= time.time_ns() // 10**6
    stats = after["inference_stats"]
    assert {name: total["count"] for name, total in stats.items()} == {
        **dict.fromkeys(("success", *STAGES), 2),
        **dict.fromkeys(("fail", "cache_hit", "cache_miss"), 0),
    }
    assert 0 < sum(stats[stage]["ns"] for stage in STAGES) <= stats["success"]["ns"] < took
    assert all(stats[stage]["ns"] > 0 for stage in STAGES)
    (batch,) = after["batch_stats"]
    assert batch["batch_size"] == 3
    assert [batch[stage]["count"] for stage in STAGES[1:]] == [2, 2, 2]
    assert all(batch[stage]["ns"] == stats[stage]["ns"] for stage in STAGES[1:])


def test_a_batch_is_one_call_and_every_requests_time(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    waiting = engine.queue("gate", [row(n) for n in range(7)])
    engine.release()
    assert all(future.result().status == 200 for future in [*held, *waiting])
    found = of(engine.served, "gate")
    assert (found["inference_count"], found["execution_count"]) == (8, 2)
    batches = {batch["batch_size"]: batch["compute_infer"] for batch in found["batch_stats"]}
    assert {size: total["count"] for size, total in batches.items()} == {1: 1, 7: 1}
    stats = found["inference_stats"]
    assert stats["compute_infer"] == {"count": 8, "ns": batches[1]["ns"] + 7 * batches[7]["ns"]}
    assert stats["queue"]["ns"] > stats["compute_output"]["ns"], "seven waited while one was held"


def test_failures_are_counted_apart(serve: Serve) -> None:
    served = serve("raising.py")
    assert served.http.infer("raising", {"x": -X["x"]}).status == 500
    assert served.http.infer("raising", {"y": X["x"]}).status == 400, "not even accepted"
    assert served.http.infer("raising", X).status == 200
    found = of(served, "raising")
    stats = found["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (1, 1)
    assert stats["fail"]["ns"] > 0
    assert stats["compute_infer"]["count"] == 1


def test_who_hangs_up_has_failed(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    with engine.served.http.wire() as wire:
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}).encode()
        head = f"POST /v2/models/gate/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        wire.send(head.encode(), body)
        eventually(lambda: engine.waiting("gate") == 1, "it waits")
    eventually(lambda: of(engine.served, "gate")["inference_stats"]["fail"]["count"] == 1, "it has failed")
    engine.release()
    assert held[0].result().status == 200


def test_every_model_is_told_at_once(shared: Served) -> None:
    names = [found["name"] for found in statistics(shared, "/v2/models/stats")]
    assert sorted(names) == sorted(model["name"] for model in shared.ready["models"])
    assert statistics(shared, "/v2/models/sum/versions/1/stats")[0]["name"] == "sum"


def test_numbers_agree_with_the_metrics(serve: Serve) -> None:
    served = serve("sum.py")
    x = np.ones((2, 2), np.float32)
    for _ in range(3):
        assert served.http.infer("sum", {"a": x, "b": x}).status == 200
    found = of(served, "sum")
    assert found["inference_count"] == metric(served, "samovar_items_total", model="sum") == 6
    assert found["execution_count"] == metric(served, "samovar_batches_total", model="sum")
    assert found["inference_stats"]["success"]["count"] == metric(served, "samovar_request_seconds_count", model="sum")


def test_reload_goes_on_counting_and_unload_leaves_the_list(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", options=["--control", "explicit"])
    for _ in range(2):
        assert served.http.infer("echo_fp32", X).status == 200
        assert served.http.post("/v2/repository/models/echo_fp32/load", {}).status == 200
    assert of(served, "echo_fp32")["inference_stats"]["success"]["count"] == 2
    assert served.http.post("/v2/repository/models/echo_fp32/unload", {}).status == 200
    assert statistics(served, "/v2/models/stats") == []
    (named,) = statistics(served, "/v2/models/echo_fp32/versions/1/stats")
    assert named["inference_count"] == 6
