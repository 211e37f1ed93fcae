"""A model's configuration, in the form that Triton's clients read."""

from typing import Any

import pytest

from serving import Serve, Served


def config(served: Served, path: str) -> dict[str, Any]:
    answer = served.http.get(f"/v2/models/{path}/config")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer.body
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("path", ["mixed", "mixed/versions/1"])
def test_configuration_is_the_signature_and_the_options(shared: Served, path: str) -> None:
    found = config(shared, path)
    assert (found["name"], found["platform"], found["backend"]) == ("mixed", "", "python")
    assert found["max_batch_size"] == 64
    assert found["default_model_filename"] == "forms.py"
    tensors = {tensor["name"]: (tensor["data_type"], tensor["dims"]) for tensor in found["input"] + found["output"]}
    assert tensors == {
        "x": ("TYPE_FP32", [-1]),
        "name": ("TYPE_STRING", [1]),
        "doubled": ("TYPE_FP32", [-1]),
        "width": ("TYPE_INT32", []),
        "text": ("TYPE_STRING", [1]),
        "cube": ("TYPE_INT64", [2, 2]),
    }
    assert found["instance_group"][0] | {"kind": "KIND_CPU", "count": 1} == found["instance_group"][0]
    assert found["dynamic_batching"]["preferred_batch_size"] == [64]
    assert found["parameters"]["idempotent"] == {"string_value": "true"}
    assert shared.http.get("/v2/models/mixed").json()["platform"] == found["backend"]


def test_options_have_their_fields(serve: Serve) -> None:
    served = serve("calls_held.py:Polite", "calls_held.py:Three")
    polite, three = config(served, "polite"), config(served, "three")
    assert polite["max_batch_size"] == 4
    assert polite["dynamic_batching"]["max_queue_delay_microseconds"] == 50_000
    assert (three["max_batch_size"], three["instance_group"][0]["count"]) == (1, 3)
    assert "dynamic_batching" not in three


def test_without_a_batch_axis_there_is_no_batching(shared: Served) -> None:
    found = config(shared, "nobatch")
    assert found["max_batch_size"] == 0
    assert "dynamic_batching" not in found
    assert found["input"][0]["dims"] == [2, 2]
