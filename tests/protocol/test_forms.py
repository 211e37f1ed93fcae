"""The forms that a request and its answer may have: binary or JSON per tensor, chosen outputs, raw, ids, parameters."""

import json
from typing import Any

import numpy as np
import pytest

from http_door import LENGTH_HEADER, Answer, Http, to_bytes
from serving import Served

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
NAMES = np.array([[b"ab"], [b"cd"]], object)
INPUTS: list[dict[str, Any]] = [
    {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]},
    {"name": "name", "datatype": "BYTES", "shape": [2, 1], "data": ["ab", "cd"]},
]
WANTED = {
    "doubled": [[2, 4, 6], [8, 10, 12]],
    "width": [3, 3],
    "text": [[b"ba"], [b"dc"]],
    "cube": [[[0, 0], [0, 0]], [[0, 0], [0, 0]]],
}


def send(http: Http, head: dict[str, Any], *blobs: bytes, model: str = "mixed") -> Answer:
    """JSON and what follows it."""
    encoded = json.dumps(head).encode()
    headers = {LENGTH_HEADER: str(len(encoded))}
    return http.request("POST", f"/v2/models/{model}/infer", b"".join([encoded, *blobs]), headers)


def binary(tensor: dict[str, Any], blob: bytes) -> dict[str, Any]:
    """The same tensor without its data."""
    bare = {key: value for key, value in tensor.items() if key != "data"}
    return {**bare, "parameters": {"binary_data_size": len(blob)}}


def wanted(name: str, is_binary: bool | None) -> dict[str, Any]:
    """An output asked for by name; None leaves its form open."""
    return {"name": name} if is_binary is None else {"name": name, "parameters": {"binary_data": is_binary}}


def forms(answer: Answer) -> dict[str, bool]:
    """The outputs in their order, and whether each is binary."""
    return {output["name"]: "parameters" in output for output in answer.json()["outputs"]}


def values(answer: Answer) -> dict[str, Any]:
    return {name: array.tolist() for name, array in answer.arrays().items()}


@pytest.mark.parametrize("which", [(), ("x",), ("name",), ("x", "name")], ids=str)
@pytest.mark.parametrize("back", [True, False], ids=["binary", "json"])
def test_inputs_may_mix_json_and_binary(everywhere: Served, which: tuple[str, ...], *, back: bool) -> None:
    blobs = {"x": to_bytes(X), "name": to_bytes(NAMES)}
    inputs = [binary(t, blobs[t["name"]]) if t["name"] in which else t for t in INPUTS]
    head = {"inputs": inputs, "parameters": {"binary_data_output": back}}
    answer = send(everywhere.http, head, *(blobs[name] for name in which))
    assert values(answer) == WANTED
    assert set(forms(answer).values()) == {back}


def test_blobs_belong_to_the_inputs_in_the_order_of_the_request(shared: Served) -> None:
    x, name = binary(INPUTS[0], to_bytes(X)), binary(INPUTS[1], to_bytes(NAMES))
    assert values(send(shared.http, {"inputs": [name, x]}, to_bytes(NAMES), to_bytes(X))) == WANTED


def test_outputs_may_mix_json_and_binary(everywhere: Served) -> None:
    outputs = [wanted("doubled", True), wanted("width", False), wanted("text", True), wanted("cube", None)]
    answer = everywhere.http.post("/v2/models/mixed/infer", {"inputs": INPUTS, "outputs": outputs})
    assert values(answer) == WANTED
    assert forms(answer) == {"doubled": True, "width": False, "text": True, "cube": False}
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("default", [True, False, None])
def test_outputs_that_are_listed_say_their_own_form(shared: Served, *, default: bool | None) -> None:
    content: dict[str, Any] = {"inputs": INPUTS, "outputs": [wanted("width", True), wanted("doubled", False)]}
    if default is not None:
        content["parameters"] = {"binary_data_output": default}
    answer = shared.http.post("/v2/models/mixed/infer", content)
    assert forms(answer) == {"width": True, "doubled": False}


def test_outputs_are_the_listed_ones(shared: Served) -> None:
    for names in (["text"], ["width", "doubled"], ["cube", "text", "width", "doubled"]):
        content = {"inputs": INPUTS, "outputs": [{"name": name} for name in names]}
        answer = shared.http.post("/v2/models/mixed/infer", content)
        assert list(forms(answer)) == names
        assert values(answer) == {name: WANTED[name] for name in names}


@pytest.mark.parametrize("outputs", [None, []])
def test_outputs_are_all_where_none_is_listed(shared: Served, outputs: list[Any] | None) -> None:
    answer = shared.http.post("/v2/models/mixed/infer", {"inputs": INPUTS, "outputs": outputs})
    assert list(forms(answer)) == list(WANTED)
    assert answer.headers["content-type"] == "application/json"


def test_answer_names_model_version_and_the_clients_id(shared: Served) -> None:
    for content, own in (({}, {}), ({"id": ""}, {}), ({"id": "mine é"}, {"id": "mine é"})):
        answer = shared.http.post("/v2/models/mixed/infer", {"inputs": INPUTS, **content}).json()
        assert {**answer, "outputs": 0} == {"model_name": "mixed", "model_version": "1", "outputs": 0, **own}


def test_errors_carry_the_clients_id_wherever_the_fault_is(shared: Served) -> None:
    for content in ({"id": "mine", "inputs": []}, {"id": "mine", "inputs": 5}, {"id": "mine", "inputs": INPUTS[:1]}):
        assert shared.http.post("/v2/models/mixed/infer", content).json()["id"] == "mine"
    answer = shared.http.post("/v2/models/nothing/infer", {"inputs": []}, x_request_id="from-a-header")
    assert answer.json()["id"] == "from-a-header"


def test_unknown_members_and_parameters_are_let_through(shared: Served) -> None:
    content = {
        "inputs": [
            {**INPUTS[0], "parameters": {"content_type": "np", "deep": [{}]}, "extra": [1, {"a": None}]},
            INPUTS[1],
        ],
        "outputs": [{"name": "width", "parameters": {"content_type": "np"}, "extra": {}}],
        "parameters": {"text": "a", "number": 1, "float": 0.5, "flag": True},
        "extra": [[[]]],
    }
    assert values(shared.http.post("/v2/models/mixed/infer", content)) == {"width": WANTED["width"]}


def test_nulls_of_typed_clients_are_absences(shared: Served) -> None:
    content = {
        "id": None,
        "parameters": None,
        "inputs": [{**tensor, "parameters": None} for tensor in INPUTS],
        "outputs": None,
    }
    assert values(shared.http.post("/v2/models/mixed/infer", content)) == WANTED


def test_members_may_come_in_any_order(shared: Served) -> None:
    backwards = {"outputs": [], "inputs": [dict(reversed(tensor.items())) for tensor in INPUTS], "id": "last"}
    assert values(shared.http.post("/v2/models/mixed/infer", backwards)) == WANTED


@pytest.mark.parametrize(
    ("model", "body", "shape"),
    [
        ("echo_fp32", X.tobytes(), [1, 6]),
        ("echo_fp32", b"", [1, 0]),
        ("image", bytes(64), [1, 4, 4]),
        ("image", bytes(192), [3, 4, 4]),
        ("image", b"", [0, 4, 4]),
        ("vector", bytes(20), [5]),
        ("nobatch", np.eye(2).tobytes(), [1]),
        ("scalar", np.float64(3).tobytes(), []),
        ("one_text", b"\xff any bytes", [1, 1]),
        ("one_text", b"", [1, 1]),
    ],
)
def test_raw_request_is_one_tensor(everywhere: Served, model: str, body: bytes, shape: list[int]) -> None:
    answer = everywhere.http.request("POST", f"/v2/models/{model}/infer", body, {LENGTH_HEADER: "0"})
    (array,) = answer.arrays().values()
    assert list(array.shape) == shape
    assert set(forms(answer).values()) == {True}
    if model.startswith(("echo", "image")):
        assert array.tobytes() == body
    if model == "one_text":
        assert array.tolist() == [[body]]


def test_tensors_without_a_batch_axis_are_what_the_signature_says(everywhere: Served) -> None:
    http = everywhere.http
    assert http.infer("scalar", {"x": np.array(3.0)}).arrays()["output"].tolist() == 9
    assert http.infer_binary("scalar", {"x": np.array(3.0)}).arrays()["output"].shape == ()
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert http.infer("nobatch", {"matrix": matrix}).arrays()["output"].tolist() == [-2.0]
    assert http.infer("vector", {"x": np.arange(4, dtype=np.float32)}).arrays()["output"].tolist() == [1, 2, 3, 4]


def test_zero_rows_run_through_every_output(everywhere: Served) -> None:
    inputs = {"x": np.empty((0, 3), np.float32), "name": np.empty((0, 1), object)}
    for answer in (everywhere.http.infer("mixed", inputs), everywhere.http.infer_binary("mixed", inputs)):
        shapes = {name: array.shape for name, array in answer.arrays().items()}
        assert shapes == {"doubled": (0, 3), "width": (0,), "text": (0, 1), "cube": (0, 2, 2)}
