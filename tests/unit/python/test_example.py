"""The lines to try that a start and `samovar inspect` print fit the model."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

import pytest

from samovar.control.example import curl_line, infer_line, python_lines, service_line


def described(
    inputs: dict[str, tuple[str, list[int]]], output: str = "FP32", *, batch_axis: bool = True
) -> dict[str, Any]:
    return {
        "name": "m",
        "inputs": [{"name": name, "datatype": datatype, "dims": dims} for name, (datatype, dims) in inputs.items()],
        "outputs": [{"name": "output", "datatype": output, "dims": []}],
        "batch_axis": batch_axis,
        "source": {},
    }


def test_a_small_input_is_json() -> None:
    words = shlex.split(curl_line(described({"x": ("FP32", [-1, 2]), "t": ("BYTES", [])}), "http://h:1", None))
    assert words[:3] == ["curl", "http://h:1/v2/models/m/infer", "-H"]
    assert json.loads(words[-1]) == {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 1, 2], "data": [0.5, 0.5]},
            {"name": "t", "datatype": "BYTES", "shape": [1], "data": ["text"]},
        ]
    }


@pytest.mark.parametrize(
    ("datatype", "size"), [("FP32", 400), ("UINT8", 100), ("BOOL", 100), ("BYTES", 400), ("FP16", 200), ("BF16", 200)]
)
def test_a_large_input_is_bytes(datatype: str, size: int) -> None:
    line = curl_line(described({"x": (datatype, [100])}), "http://h:1", None)
    words = shlex.split(line.replace("(", "( ").replace(";", " ;").replace(")", " )"))
    header = words[words.index("%s") + 1]
    assert json.loads(header)["inputs"][0]["parameters"] == {"binary_data_size": size}
    assert words[words.index("-c") + 1] == str(size)
    assert f"Inference-Header-Content-Length: {len(header)}" in words


def test_an_answer_that_json_cannot_hold_is_wanted_as_bytes() -> None:
    words = shlex.split(curl_line(described({"x": ("INT8", [1])}, "BF16", batch_axis=False), "http://h:1", "/run/a b"))
    assert words[1:3] == ["--unix-socket", "/run/a b"]
    assert words[4:6] == ["--output", "answer.bin"]
    assert json.loads(words[-1])["parameters"] == {"binary_data_output": True}


def test_the_command_has_small_inputs_as_json_and_large_ones_as_files() -> None:
    model = described({"x": ("FP32", [-1, 2]), "t": ("BYTES", []), "input:0": ("INT8", [100])})
    assert shlex.split(infer_line(model)) == [
        *("samovar", "infer", "m", "--input", "x=[[[0.5, 0.5]]]"),
        *("--input", 't=["text"]', "--input", "input:0=@input:0.npy"),
    ]


def test_the_program_calls_by_name_where_names_are_names() -> None:
    model = described({"x": ("BF16", [2]), "t": ("BYTES", [1])})
    assert python_lines(model, "my models/m.onnx") == [
        "import ml_dtypes",
        "import numpy as np",
        "import samovar",
        'model = samovar.load("my models/m.onnx")',
        'print(model.predict(x=np.zeros((1, 2), ml_dtypes.bfloat16), t=np.full((1, 1), b"text", object)))',
    ]
    odd = described({"in": ("INT8", [])}, batch_axis=False)
    assert python_lines(odd, "m.onnx")[-1] == "print(model.predict(np.zeros((), np.int8)))"


def test_what_is_not_known_is_shown_as_numbers_with_one_axis() -> None:
    model = described({}, batch_axis=False)
    model["inputs"] = [{"name": "x", "datatype": None, "dims": None}]
    assert infer_line(model) == "samovar infer m --input 'x=[0.5]'"


def request(method: str, files: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    found = {"method": method, "path": "/plates/read", "fields": fields, "files": list(files)}
    return {"name": "plates", "source": {"request": found}}


def without_request(*mounts: str) -> dict[str, Any]:
    return {"name": "plates", "source": {"request": None}, "service": {"mounts": mounts}}


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (request("POST", n=1), ["http://h/plates/read", "-H", "Content-Type: application/json", "-d", '{"n": 1}']),
        (
            request("POST", ["image"], n=1, t="a b"),
            ["http://h/plates/read", "-F", "image=@image", "-F", "n=1", "-F", "t=a b"],
        ),
        (request("GET", n=1, t="a b"), ["http://h/plates/read?n=1&t=a+b"]),
        (request("GET"), ["http://h/plates/read"]),
        (request("DELETE"), ["-X", "DELETE", "http://h/plates/read"]),
        (without_request("/plates"), ["http://h/plates/openapi.json"]),
        (without_request("/plates", "/ui"), ["http://h/ui/"]),
    ],
)
def test_a_method_of_a_service_is_called_as_it_wants_to_be(service: dict[str, Any], words: list[str]) -> None:
    assert shlex.split(service_line(service, "http://h", None)) == ["curl", *words]
    assert shlex.split(service_line(service, "http://h", "/a b"))[1:3] == ["--unix-socket", "/a b"]


@pytest.mark.parametrize(
    ("inputs", "columns"),
    [
        ({"x": ("FP64", [2])}, ["age", "the city"]),
        ({"x": ("FP64", [-1])}, ["age"]),
        ({"age": ("FP64", []), "the city": ("BYTES", [1])}, ["age", "the city"]),
        ({"the city": ("BYTES", [])}, ["the city"]),
    ],
)
def test_a_table_is_asked_by_column_name(inputs: dict[str, tuple[str, list[int]]], columns: list[str]) -> None:
    model = described(inputs)
    model["source"]["columns"] = columns
    body = json.loads(shlex.split(curl_line(model, "http://h:1", None))[-1])
    assert list(body) == ["records"]
    assert [list(row) for row in body["records"]] == [columns]
    words = shlex.split(infer_line(model))
    assert words[:4] == ["samovar", "infer", "m", "--records"]
    assert json.loads(words[4]) == body["records"]


def test_what_a_file_knows_to_be_taken_is_sent() -> None:
    model = described({"city": ("BYTES", []), "code": ("INT64", []), "age": ("FP32", [])})
    model["source"]["examples"] = {"city": "łódź", "code": 5}
    assert [word for word in shlex.split(infer_line(model)) if "=" in word] == [
        'city=["łódź"]',
        "code=[5]",
        "age=[0.5]",
    ]
    assert python_lines(model, "m.txt")[-1] == (
        'print(model.predict(city=np.full((1,), "łódź".encode(), object), '
        "code=np.full((1,), 5, np.int64), age=np.zeros((1,), np.float32)))"
    )
