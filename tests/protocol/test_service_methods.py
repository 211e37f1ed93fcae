"""Methods of services that take tensors are models to clients of the Open Inference Protocol: `<service>.<method>`."""

import numpy as np
import pytest

from serving import Served
from watching import metric

X = np.array([[1, 2], [3, 4.5]], np.float32)
DOORS = ["json", "binary", "grpc"]
INPUTS = {"x": X, "factor": np.array([2.0])}


def infer(served: Served, door: str, model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs, through one of DOORS."""
    match door:
        case "json":
            return served.http.infer(model, inputs).arrays()
        case "binary":
            return served.http.infer_binary(model, inputs).arrays()
        case _:
            return served.grpc.infer(model, inputs).arrays()


def text(word: str) -> dict[str, np.ndarray]:
    return {"kind": np.array([word.encode()], object)}


@pytest.mark.parametrize("door", DOORS)
def test_arrays_numbers_and_texts_are_tensors(services: Served, door: str) -> None:
    np.testing.assert_array_equal(infer(services, door, "typed.scale", INPUTS)["output"], X * 2)
    numbers = {"a": np.array([2**40]), "b": np.array([-1])}
    assert infer(services, door, "typed.add", numbers)["output"].tolist() == [2**40 - 1]
    words = {"text": np.array(["gr\u00fcn".encode()], object)}
    assert infer(services, door, "typed.shout", words)["output"].tolist() == ["GR\u00dcN".encode()]


@pytest.mark.parametrize("door", DOORS)
def test_the_fields_of_a_result_are_outputs(services: Served, door: str) -> None:
    outputs = infer(services, door, "typed.extremes", {"x": np.array([3, -1, 2], np.float32)})
    assert {name: array.tolist() for name, array in outputs.items()} == {"low": [-1.0], "high": [3.0]}


def test_a_method_is_described_as_a_model(services: Served) -> None:
    wanted = {
        "name": "typed.scale",
        "versions": ["1"],
        "platform": "service",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "factor", "datatype": "FP64", "shape": [1]},
        ],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 2]}],
    }
    for path in ("/v2/models/typed.scale", "/v2/models/typed.scale/versions/1"):
        assert services.http.get(path).json() == wanted
        assert services.http.get(f"{path}/ready").status == 200
        assert services.http.get(f"{path}/config").json()["name"] == "typed.scale"
    content = services.grpc.call("ModelMetadata", "typed.scale").content
    assert [tensor.name for tensor in content.inputs] == ["x", "factor"]
    assert services.grpc.call("ModelReady", "typed.scale").content.ready
    answer = services.http.get("/v2/models/typed.scale/versions/2")
    assert (answer.status, answer.code()) == (404, "unknown_version")


def test_the_index_lists_methods_of_tensors_and_no_others(services: Served) -> None:
    named = {"typed.add", "typed.extremes", "typed.scale", "typed.shout", "typed.put", "typed.fail"}
    index = services.http.post("/v2/repository/index", {}).json()
    assert {line["name"] for line in index if "." in line["name"]} == named
    assert not {"typed", "raw"} & {line["name"] for line in index}, "services take no tensors"
    assert {line["state"] for line in index} == {"READY"}
    listed = services.grpc.call("RepositoryIndex").content.models
    assert {model.name for model in listed} == {line["name"] for line in index}


def test_a_service_is_ready_as_a_model_is_but_takes_no_tensors(services: Served) -> None:
    for name in ("typed", "raw"):
        assert services.http.get(f"/v2/models/{name}").json()["inputs"] == []
        assert services.http.get(f"/v2/models/{name}/ready").status == 200
        answer = services.http.infer(name, INPUTS)
        assert (answer.status, answer.code()) == (400, "invalid_request")
        assert f'"{name}" is a service' in answer.json()["error"]
        reply = services.grpc.infer(name, INPUTS)
        assert reply.code() == "invalid_request"
    assert "typed.scale" in services.http.infer("typed", INPUTS).json()["error"]


def test_a_method_that_is_none_is_an_unknown_model(services: Served) -> None:
    for name in ("typed.nothing", "typed.keep", "typed.", "raw.add", "typed.add.more"):
        answer = services.http.infer(name, INPUTS)
        assert answer.status in (400, 404)
        assert answer.code() in ("unknown_model", "invalid_name")
        assert services.grpc.infer(name, INPUTS).code() == answer.code()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"x": X}, ['"factor"', "is missing"]),
        ({**INPUTS, "y": X}, ['"y"']),
        ({"x": X.astype(np.float64), "factor": INPUTS["factor"]}, ['"x"', "FP64", "FP32"]),
        ({"x": np.ones((1, 3), np.float32), "factor": INPUTS["factor"]}, ['"x"', "[1, 3]", "axis 1 must be 2"]),
        ({"x": X, "factor": np.array([1.0, 2.0])}, ['"factor"', "[2]"]),
    ],
)
def test_an_input_that_does_not_fit_is_named(services: Served, inputs: dict[str, np.ndarray], words: list[str]) -> None:
    answer = services.http.infer("typed.scale", inputs)
    assert (answer.status, answer.code()) == (400, "invalid_input")
    assert all(word in answer.json()["error"] for word in words), answer.body
    reply = services.grpc.infer("typed.scale", inputs)
    assert (reply.code(), reply.text) == ("invalid_input", answer.json()["error"])


@pytest.mark.parametrize(
    ("kind", "status", "code", "words"),
    [
        ("exception", 500, "model_error", "ValueError: no such thing"),
        ("input", 400, "invalid_input", "that is too much"),
        ("result", 500, "bad_model_output", "the result is str: input should be a valid integer"),
    ],
)
def test_what_a_method_raises_has_the_same_code_as_over_its_path(
    services: Served, kind: str, status: int, code: str, words: str
) -> None:
    answer = services.http.infer("typed.fail", text(kind))
    assert (answer.status, answer.code()) == (status, code)
    assert words in answer.json()["error"]
    assert services.grpc.infer("typed.fail", text(kind)).code() == code


def test_requests_of_each_door_are_counted_for_the_method(service: Served) -> None:
    def count(door: str, code: str) -> float:
        return metric(service, "samovar_requests_total", model="typed.fail", door=door, code=code)

    for door in ("http", "grpc"):
        before = count(door, "invalid_input"), count(door, "ok")
        for kind in ("input", "nothing"):
            if door == "http":
                service.http.infer("typed.fail", text(kind))
            else:
                service.grpc.infer("typed.fail", text(kind))
        assert (count(door, "invalid_input"), count(door, "ok")) == (before[0] + 1, before[1] + 1)
    stats = service.http.get("/v2/models/typed.fail/stats").json()["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] >= 2
