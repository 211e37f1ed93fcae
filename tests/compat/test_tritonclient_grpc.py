"""`tritonclient.grpc`, unchanged, against the gRPC door: what its users call, sync, async and with asyncio."""

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from http_door import DATATYPES
from serving import Serve, Served

X = np.array([[1.5, -2.0, 3.25]], np.float32)
DTYPES = {name: dtype for name, dtype in DATATYPES.items() if name not in ("BF16", "BYTES")}


@pytest.fixture(params=["grpc", "http"])
def address(request: pytest.FixtureRequest, echo: Served) -> str:
    """Each port speaks gRPC."""
    return f"127.0.0.1:{echo.ready['ports'][request.param]}"


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as opened:
        yield opened


def inputs(array: np.ndarray, datatype: str, name: str = "x") -> list[triton.InferInput]:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
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
    assert client.get_server_metadata().name == "samovar"
    metadata = client.get_model_metadata("echo_fp32")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs] == [
        ("x", "FP32", [-1, -1])
    ]
    assert client.get_model_metadata("echo_fp32", as_json=True)["versions"] == ["1"]


def test_configuration_and_statistics_are_read(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("echo_fp32").config
    assert (config.name, config.input[0].data_type) == ("echo_fp32", triton.model_config_pb2.TYPE_FP32)
    assert config.HasField("dynamic_batching")
    client.infer("echo_fp32", inputs(np.repeat(X, 3, axis=0), "FP32"))
    (stats,) = client.get_inference_statistics("echo_fp32").model_stats
    assert (stats.inference_count, stats.execution_count, stats.inference_stats.success.count) == (3, 1, 1)
    assert stats.inference_stats.compute_infer.ns > 0
    assert [batch.batch_size for batch in stats.batch_stats] == [3]
    assert len(client.get_inference_statistics().model_stats) == 1


def test_repository_is_listed_and_controlled(client: triton.InferenceServerClient) -> None:
    (line,) = client.get_model_repository_index().models
    assert (line.name, line.version, line.state, line.reason) == ("echo_fp32", "1", "READY", "")
    client.unload_model("echo_fp32")
    assert not client.is_model_ready("echo_fp32")
    client.load_model("echo_fp32")
    assert client.is_model_ready("echo_fp32")


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_sync_client_infers(client: triton.InferenceServerClient, compression: str | None) -> None:
    wanted = [triton.InferRequestedOutput("output")]
    result = client.infer(
        "echo_fp32", inputs(X, "FP32"), outputs=wanted, request_id="first", compression_algorithm=compression
    )
    np.testing.assert_array_equal(output(result), X)
    assert result.get_response().id == "first"


def test_async_requests_of_the_sync_client_are_answered(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    for n in range(200):  # more than one connection may carry at a time

        def take(result: Any, error: Any, n: int = n) -> None:
            answers.put((n, result, error))

        client.async_infer("echo_fp32", inputs(X * n, "FP32"), take)
    for _ in range(200):
        n, result, error = answers.get(timeout=30)
        assert error is None
        np.testing.assert_array_equal(output(result), X * n)


def test_aio_client_infers(address: str) -> None:
    async def infer() -> list[np.ndarray]:
        async with triton_aio.InferenceServerClient(address) as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("echo_fp32")
            assert (await client.get_model_metadata("echo_fp32")).platform == "python"
            calls = [client.infer("echo_fp32", inputs(X * n, "FP32")) for n in range(20)]
            return [output(result) for result in await asyncio.gather(*calls)]

    for n, array in enumerate(asyncio.run(infer())):
        np.testing.assert_array_equal(array, X * n)


def test_parameters_headers_and_timeouts_are_taken(client: triton.InferenceServerClient) -> None:
    result = client.infer(
        "echo_fp32",
        inputs(X, "FP32"),
        model_version="1",
        headers={"samovar-timeout-ms": "5000"},
        parameters={"text": "a", "number": 1, "flag": True},
        timeout=5_000_000,
        client_timeout=5.0,
        priority=1,
    )
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


def test_typed_contents_of_the_public_protocol_travel(address: str) -> None:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=X.shape)
    tensor.contents.fp32_contents.extend(X.ravel().tolist())
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(service_pb2.ModelInferRequest(model_name="echo_fp32", inputs=[tensor]))
    assert list(answer.raw_output_contents) == [X.tobytes()]


def test_several_inputs_and_outputs_travel(serve: Serve) -> None:
    served = serve("sum.py")
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        both = inputs(X, "FP32", name="a") + inputs(X, "FP32", name="b")
        wanted = [triton.InferRequestedOutput("difference"), triton.InferRequestedOutput("total")]
        result = client.infer("sum", both, outputs=wanted)
        np.testing.assert_array_equal(output(result, "total"), 2 * X)
        np.testing.assert_array_equal(output(result, "difference"), 0 * X)


def test_a_client_may_give_up(serve: Serve) -> None:
    served = serve("slow.py")
    seconds = inputs(np.array([[5.0]], np.float32), "FP32", name="seconds")
    with triton.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        with pytest.raises(InferenceServerException) as raised:
            client.infer("slow", seconds, client_timeout=0.3)
        assert raised.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        errors: queue.Queue[Any] = queue.Queue()
        running = client.async_infer("slow", seconds, lambda result, error: errors.put(error))
        running.cancel()
        assert errors.get(timeout=30).status() == "StatusCode.CANCELLED"


def test_errors_arrive_with_their_text(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="nothing_here") as raised:
        client.infer("nothing_here", inputs(X, "FP32"))
    assert raised.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(InferenceServerException, match=r"datatype FP64, wanted FP32") as raised:
        client.infer("echo_fp32", inputs(X.astype(np.float64), "FP64"))
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_shared_memory_of_clients_is_refused(client: triton.InferenceServerClient) -> None:
    tensor = triton.InferInput("x", [1, 3], "FP32")
    tensor.set_shared_memory("region", 12)
    with pytest.raises(InferenceServerException, match="shared memory of clients is not taken"):
        client.infer("echo_fp32", [tensor])
    with pytest.raises(InferenceServerException) as raised:
        client.get_system_shared_memory_status()
    assert raised.value.status() == "StatusCode.UNIMPLEMENTED"
