"""`tritonclient.http`, unchanged, against the HTTP door: what its users call, sync, async and with asyncio."""

import asyncio
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from http_door import DATATYPES
from serving import Serve, Served

X = np.array([[1.5, -2.0, 3.25]], np.float32)
DTYPES = {name: dtype for name, dtype in DATATYPES.items() if name not in ("BF16", "BYTES")}


@pytest.fixture
def client(echo: Served) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{echo.port}", concurrency=4) as opened:
        yield opened


def inputs(array: np.ndarray, datatype: str, *, binary: bool = True, name: str = "x") -> list[triton.InferInput]:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return [tensor]


def output(result: Any, name: str = "output") -> np.ndarray:
    found: np.ndarray = result.as_numpy(name)
    return found


def test_health_and_metadata_are_read(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo_fp32")
    assert client.is_model_ready("echo_fp32", "1")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "samovar"
    assert client.get_model_metadata("echo_fp32")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]


def test_repository_is_listed_and_controlled(client: triton.InferenceServerClient) -> None:
    assert client.get_model_repository_index() == [
        {"name": "echo_fp32", "version": "1", "state": "READY", "reason": ""},
    ]
    client.unload_model("echo_fp32")
    assert not client.is_model_ready("echo_fp32")
    client.load_model("echo_fp32")
    assert client.is_model_ready("echo_fp32")


@pytest.mark.parametrize("binary_in", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("binary_out", [True, False, None], ids=["binary", "json", "default"])
def test_sync_client_infers(client: triton.InferenceServerClient, binary_in: bool, binary_out: bool | None) -> None:
    wanted = None if binary_out is None else [triton.InferRequestedOutput("output", binary_data=binary_out)]
    result = client.infer("echo_fp32", inputs(X, "FP32", binary=binary_in), outputs=wanted, request_id="first")
    np.testing.assert_array_equal(output(result), X)
    assert result.get_response()["id"] == "first"


def test_async_requests_of_the_sync_client_are_answered(client: triton.InferenceServerClient) -> None:
    sent = [client.async_infer("echo_fp32", inputs(X * n, "FP32")) for n in range(20)]
    for n, request in enumerate(sent):
        np.testing.assert_array_equal(output(request.get_result()), X * n)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_aio_client_infers(echo: Served, binary: bool) -> None:
    async def infer() -> list[np.ndarray]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{echo.port}") as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("echo_fp32")
            calls = [client.infer("echo_fp32", inputs(X * n, "FP32", binary=binary)) for n in range(20)]
            return [output(result) for result in await asyncio.gather(*calls)]

    for n, array in enumerate(asyncio.run(infer())):
        np.testing.assert_array_equal(array, X * n)


def test_parameters_headers_and_timeouts_are_taken(client: triton.InferenceServerClient) -> None:
    result = client.infer(
        "echo_fp32",
        inputs(X, "FP32"),
        model_version="1",
        headers={"samovar-timeout-ms": "5000"},
        query_params={"a": "b"},
        parameters={"text": "a", "number": 1, "flag": True},
        timeout=5_000_000,
        priority=1,
    )
    np.testing.assert_array_equal(output(result), X)


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_answers_may_be_asked_for(client: triton.InferenceServerClient, compression: str) -> None:
    result = client.infer("echo_fp32", inputs(X, "FP32"), response_compression_algorithm=compression)
    np.testing.assert_array_equal(output(result), X)


def test_every_datatype_travels(serve: Serve) -> None:
    served = serve("echo.py")
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        for datatype, dtype in DTYPES.items():
            x = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
            got = output(client.infer(f"echo_{datatype.lower()}", inputs(x, datatype)))
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(got, x)
        texts = np.array([[b"ab", "grüße".encode()], [b"", b"\xff"]], object)
        np.testing.assert_array_equal(output(client.infer("echo_bytes", inputs(texts, "BYTES"))), texts)
        empty = np.empty((0, 3), np.float32)
        assert output(client.infer("echo_fp32", inputs(empty, "FP32"))).shape == (0, 3)
        brain = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
        np.testing.assert_array_equal(output(client.infer("echo_bf16", inputs(brain, "BF16"))), brain)


def test_several_inputs_and_outputs_travel(serve: Serve) -> None:
    served = serve("sum.py")
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        both = inputs(X, "FP32", name="a") + inputs(X, "FP32", name="b", binary=False)
        wanted = [triton.InferRequestedOutput("difference", False), triton.InferRequestedOutput("total", True)]
        result = client.infer("sum", both, outputs=wanted)
        np.testing.assert_array_equal(output(result, "total"), 2 * X)
        np.testing.assert_array_equal(output(result, "difference"), 0 * X)


def test_errors_arrive_with_their_text(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="nothing_here") as raised:
        client.infer("nothing_here", inputs(X, "FP32"))
    assert raised.value.status() == "404"
    with pytest.raises(InferenceServerException, match=r"datatype FP64, wanted FP32"):
        client.infer("echo_fp32", inputs(X.astype(np.float64), "FP64"))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_bodies_are_compressed_both_ways(serve: Serve, algorithm: str, *, binary: bool) -> None:
    served = serve("echo.py:EchoFp32", options=["--compress-responses"])
    x = np.linspace(0, 1, 3_000, dtype=np.float32).reshape(3, 1_000)
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        result = client.infer(
            "echo_fp32",
            inputs(x, "FP32", binary=binary),
            outputs=[triton.InferRequestedOutput("output", binary_data=binary)],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
    np.testing.assert_array_equal(output(result), x)


def test_configuration_and_statistics_are_read(client: triton.InferenceServerClient) -> None:
    client.infer("echo_fp32", inputs(X, "FP32"))
    config = client.get_model_config("echo_fp32")
    assert (config["backend"], config["max_batch_size"]) == ("python", 64)
    (of_model,) = client.get_inference_statistics("echo_fp32")["model_stats"]
    assert of_model["inference_stats"]["success"]["count"] == 1
    assert of_model in client.get_inference_statistics()["model_stats"]
    assert "statistics" in client.get_server_metadata()["extensions"]
