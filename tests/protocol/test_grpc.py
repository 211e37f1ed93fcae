"""The gRPC door: its methods, what rides in metadata and trailers, and that both ports have it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from grpc import StatusCode

from grpc_door import SERVICE, Grpc, Reply, message, raw_request, tensor, typed_tensor
from protocol.gates import HELD, Begin, row
from serving import Serve, Served
from watching import eventually, metric

X = np.array([[1.5, -2.0, 3.25]], np.float32)


@pytest.fixture(params=["own port", "shared port"])
def client(request: pytest.FixtureRequest, shared: Served) -> Grpc:
    """The gRPC door behind each listener."""
    return shared.grpc if request.param == "own port" else Grpc(shared.port)


def refused(reply: Reply, status: StatusCode, code: str) -> None:
    """An error with both of its names, a text and an id."""
    assert (reply.status, reply.code()) == (status, code), reply
    assert reply.text
    assert reply.request_id


def test_each_port_speaks_both_protocols(shared: Served) -> None:
    for port in shared.ready["ports"].values():
        assert Grpc(port).call("ServerLive").content.live
        assert Grpc(port).infer("echo_fp32", {"x": X}).arrays()["output"].tolist() == X.tolist()
    assert shared.ready["ports"]["http"] != shared.ready["ports"]["grpc"]


def test_unix_socket_speaks_both_protocols(serve: Serve, tmp_path: Any) -> None:
    serve("echo.py:EchoFp32", options=["--host", f"unix:{tmp_path}/s"])
    # grpcio would name the path as its authority, which is none; nobody but grpcio takes it for one.
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{tmp_path}/s", options=options) as channel:
        reply = Grpc(0).send(f"{SERVICE}/ServerReady", b"", channel=channel)
    assert message("inference.ServerReadyResponse").FromString(reply.content).ready


@pytest.mark.parametrize(
    ("method", "fields", "path"),
    [
        ("ServerMetadata", {}, "/v2"),
        ("ModelMetadata", {"name": "sum"}, "/v2/models/sum"),
        ("ModelMetadata", {"name": "sum", "version": "1"}, "/v2/models/sum/versions/1"),
        ("ModelStatistics", {"name": "nobatch"}, "/v2/models/nobatch/stats"),
    ],
)
def test_answers_are_those_of_http(client: Grpc, shared: Served, method: str, fields: Any, path: str) -> None:
    content = client.call(method, **fields).content
    assert content == json_format.ParseDict(shared.http.get(path).json(), type(content)())


def test_configuration_is_that_of_http(client: Grpc, shared: Served) -> None:
    config = client.call("ModelConfig", "sum").content.config
    assert config == json_format.ParseDict(shared.http.get("/v2/models/sum/config").json(), type(config)())
    assert config.max_batch_size > 0


def test_index_is_that_of_http(client: Grpc, shared: Served) -> None:
    models = client.call("RepositoryIndex").content.models
    listed = shared.http.post("/v2/repository/index", {}).json()
    assert [json_format.MessageToDict(model, always_print_fields_with_no_presence=True) for model in models] == listed
    assert {model.state for model in client.call("RepositoryIndex", ready=True).content.models} == {"READY"}


def test_readiness_is_told(client: Grpc) -> None:
    assert client.call("ServerReady").content.ready
    assert client.call("ModelReady", "sum").content.ready
    assert client.call("ModelReady", "sum", "1").content.ready
    assert not client.call("ModelReady", "sum", "2").content.ready
    assert not client.call("ModelReady", "nothing").content.ready
    refused(client.call("ModelReady", "../etc"), StatusCode.INVALID_ARGUMENT, "invalid_name")


@pytest.mark.parametrize("service", ["", SERVICE, "sum"])
def test_health_service_tells_of_engine_and_models(client: Grpc, service: str) -> None:
    request = message("grpc.health.v1.HealthCheckRequest", service=service)
    reply = client.send("grpc.health.v1.Health/Check", request.SerializeToString())
    answer = message("grpc.health.v1.HealthCheckResponse").FromString(reply.content)
    assert answer.status == answer.SERVING


def test_health_of_what_is_unknown_is_not_found(client: Grpc) -> None:
    request = message("grpc.health.v1.HealthCheckRequest", service="nothing")
    reply = client.send("grpc.health.v1.Health/Check", request.SerializeToString())
    refused(reply, StatusCode.NOT_FOUND, "unknown_model")


@pytest.mark.parametrize(
    "method", ["inference.GRPCInferenceService/ModelStreamInfer", "grpc.health.v1.Health/Watch", "a.b/C", "x"]
)
def test_unknown_methods_are_unimplemented(client: Grpc, method: str) -> None:
    refused(client.send(method, b""), StatusCode.UNIMPLEMENTED, "not_found")


def test_models_are_loaded_and_unloaded_by_name(serve: Serve) -> None:
    client = serve("echo.py:EchoFp32", options=["--control", "explicit"]).grpc
    assert client.call("RepositoryModelUnload", "echo_fp32").status is StatusCode.OK
    assert not client.call("ModelReady", "echo_fp32").content.ready
    assert client.infer("echo_fp32", {"x": X}).status is not StatusCode.OK
    assert client.call("RepositoryModelLoad", "echo_fp32").status is StatusCode.OK
    np.testing.assert_array_equal(client.infer("echo_fp32", {"x": X}).arrays()["output"], X)
    refused(client.call("RepositoryModelLoad", "nothing"), StatusCode.NOT_FOUND, "unknown_model")
    refused(client.call("RepositoryModelLoad", "a/b"), StatusCode.INVALID_ARGUMENT, "invalid_name")
    config = {"config": message("inference.ModelRepositoryParameter", string_param="{}")}
    overridden = client.call("RepositoryModelLoad", "echo_fp32", parameters=config)
    refused(overridden, StatusCode.INVALID_ARGUMENT, "invalid_request")
    elsewhere = client.call("RepositoryModelLoad", "echo_fp32", repository_name="other")
    refused(elsewhere, StatusCode.INVALID_ARGUMENT, "invalid_request")


def test_control_is_refused_unless_switched_on(client: Grpc) -> None:
    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        refused(client.call(method, "sum"), StatusCode.PERMISSION_DENIED, "control_disabled")


def test_outputs_come_as_wanted_with_id_and_names(client: Grpc) -> None:
    request = raw_request("sum", {"a": X, "b": X}, ["difference", "total"])
    request.id, request.model_version = "mine", "1"
    request.parameters["text"].string_param = "a"
    reply = client.infer_message(request)
    assert list(reply.arrays()) == ["difference", "total"]
    np.testing.assert_array_equal(reply.arrays()["total"], 2 * X)
    content = reply.content
    assert (content.model_name, content.model_version, content.id) == ("sum", "1", "mine")
    assert not client.infer("sum", {"a": X, "b": X}).content.id


def test_typed_and_raw_contents_do_not_mix(client: Grpc) -> None:
    request = raw_request("sum", {"a": X, "b": X})
    request.inputs[1].CopyFrom(typed_tensor("b", X))
    reply = client.infer_message(request)
    refused(reply, StatusCode.INVALID_ARGUMENT, "invalid_request")
    assert 'input "b": it has both `contents` and raw_input_contents' in reply.text


def test_requests_share_batches_whatever_their_door(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    before = engine.waiting("gate")
    over_grpc = engine.threads.submit(engine.served.grpc.infer, "gate", {"x": row(2)})
    eventually(lambda: engine.waiting("gate") == before + 1, "it waits")
    (over_http,) = engine.queue("gate", [row(1)])
    engine.release()
    assert over_grpc.result().arrays()["rows"].tolist() == [2]
    assert over_http.result().arrays()["rows"].tolist() == [2]
    assert held[0].result().status == 200


def test_full_queue_says_when_to_come_back(gated: Begin) -> None:
    engine = gated("Narrow")
    engine.hold("narrow")
    sent = engine.send("narrow", row(0))  # ahead of its time, to the worker
    eventually(lambda: metric(engine.served, "samovar_in_flight", model="narrow") == 2, "a call is sent ahead")
    waiting = engine.queue("narrow", [row(1), row(2)])
    reply = engine.served.grpc.infer("narrow", {"x": row(3)})
    refused(reply, StatusCode.RESOURCE_EXHAUSTED, "queue_full")
    assert reply.retry_after_s == 1
    engine.release()
    assert [future.result().status for future in (sent, *waiting)] == [200] * 3


def test_deadline_in_metadata_is_kept(gated: Begin) -> None:
    engine = gated("Gate")
    late = engine.served.grpc.infer("gate", {"x": HELD}, samovar_timeout_ms="100")
    refused(late, StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded")
    call, _ = engine.gate.accept()
    call.close()
    assert metric(engine.served, "samovar_expired_total", model="gate", stage="running") == 1
    zero = engine.served.grpc.infer("gate", {"x": row(1)}, samovar_timeout_ms="0")
    refused(zero, StatusCode.INVALID_ARGUMENT, "invalid_request")


@pytest.mark.parametrize("end", ["cancel", "deadline"])
@pytest.mark.parametrize("stage", ["queue", "running"])
def test_client_that_gives_up_cancels_its_request(gated: Begin, end: str, stage: str) -> None:
    engine = gated("Gate")
    held = engine.hold("gate") if stage == "queue" else []
    with engine.served.grpc.connect() as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        request = raw_request("gate", {"x": row(1) if stage == "queue" else HELD}).SerializeToString()
        future = call.future(request, timeout=1 if end == "deadline" else None)
        if stage == "queue":
            eventually(lambda: engine.waiting("gate") == 1, "it waits")
        else:
            engine.calls.append(engine.gate.accept()[0])
        if end == "cancel":
            future.cancel()
        else:
            assert future.exception().code() is StatusCode.DEADLINE_EXCEEDED

        def ended() -> bool:
            counted = ("samovar_cancelled_total", "samovar_expired_total")
            return sum(metric(engine.served, name, model="gate", stage=stage) for name in counted) == 1

        eventually(ended, "the request is cancelled, or its deadline passes here first")
    assert engine.waiting("gate") == 0
    engine.release()
    assert [answer.result().status for answer in held] == [200] * len(held)


def test_messages_beyond_the_limit_are_refused_before_they_come(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", "echo.py:EchoInt64", options=["--max-body-bytes", "1000000"])
    client = served.grpc
    large = np.zeros((1, 300_000), np.float32)
    reply = client.infer_binary("echo_fp32", {"x": large})
    refused(reply, StatusCode.RESOURCE_EXHAUSTED, "payload_too_large")
    assert "larger than the limit of 1000000 bytes" in reply.text
    # Zeros take a byte each on the way and eight here.
    reply = client.infer("echo_int64", {"x": np.zeros((1, 200_000), np.int64)})
    refused(reply, StatusCode.RESOURCE_EXHAUSTED, "payload_too_large")
    bomb = raw_request("echo_fp32", {"x": large}).SerializeToString()
    reply = client.infer_bytes(bomb, compression=grpc.Compression.Gzip)
    refused(reply, StatusCode.RESOURCE_EXHAUSTED, "payload_too_large")
    fits = np.zeros((1, 200_000), np.float32)
    assert client.infer_binary("echo_fp32", {"x": fits}).arrays()["output"].shape == fits.shape


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_messages_may_be_compressed(client: Grpc, compression: grpc.Compression) -> None:
    x = np.tile(X, (8, 100))
    request = raw_request("echo_fp32", {"x": x}).SerializeToString()
    np.testing.assert_array_equal(client.infer_bytes(request, compression=compression).arrays()["output"], x)


def test_large_tensors_travel(client: Grpc) -> None:
    x = np.arange(10_000_000, dtype=np.float32).reshape(1, -1)
    np.testing.assert_array_equal(client.infer_binary("echo_fp32", {"x": x}).arrays()["output"], x)


def test_one_connection_carries_more_calls_than_it_may_have_at_a_time(client: Grpc) -> None:
    with client.connect() as channel, ThreadPoolExecutor(16) as threads:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        futures = []
        for n in range(400):
            request = raw_request("echo_fp32", {"x": X * n}).SerializeToString()
            futures.append(threads.submit(call.future, request, timeout=30))
        for n, future in enumerate(futures):
            content = message("ModelInferResponse").FromString(future.result().result())
            assert content.raw_output_contents[0] == (X * n).tobytes()


def test_names_of_other_machines_are_refused_on_loopback(client: Grpc) -> None:
    with grpc.insecure_channel(
        f"127.0.0.1:{client.port}", options=[("grpc.default_authority", "evil.example")]
    ) as channel:
        reply = client.send(f"{SERVICE}/ServerLive", b"", channel=channel)
    refused(reply, StatusCode.PERMISSION_DENIED, "forbidden_host")
    page = client.send(f"{SERVICE}/ServerLive", b"", {"origin": "http://evil.example"})
    refused(page, StatusCode.PERMISSION_DENIED, "forbidden_origin")


def test_model_faults_are_internal_and_have_their_id(client: Grpc) -> None:
    request = message("ModelInferRequest", model_name="raising", id="mine", inputs=[typed_tensor("x", -X[:, :1])])
    reply = client.infer_message(request)
    refused(reply, StatusCode.INTERNAL, "model_error")
    assert reply.request_id == "mine"


def test_a_call_leaves_a_line_and_is_counted(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32")
    served.grpc.infer("echo_fp32", {"x": X}, x_request_id="mine")
    served.grpc.infer("nothing", {"x": X})
    for model, code in (("echo_fp32", "ok"), ("", "unknown_model")):
        assert metric(served, "samovar_requests_total", door="grpc", model=model, code=code) == 1
    assert served.stop() == 0
    good, bad = [line for line in served.log() if line.get("door") == "grpc"]
    wanted = {
        "message": "request",
        "path": f"/{SERVICE}/ModelInfer",
        "model": "echo_fp32",
        "version": "1",
        "request_id": "mine",
        "grpc_status": 0,
    }
    assert wanted.items() <= good.items()
    assert good["bytes_in"] > X.nbytes
    assert good["bytes_out"] > X.nbytes
    assert (bad["grpc_status"], bad["code"], bad["model"]) == (5, "unknown_model", "nothing")


def test_drain_answers_what_runs_and_refuses_what_comes(gated: Begin) -> None:
    engine = gated("Gate")
    with engine.served.grpc.connect() as channel:
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        running = call.future(raw_request("gate", {"x": HELD}).SerializeToString(), timeout=30)
        engine.calls.append(engine.gate.accept()[0])
        engine.served.process.terminate()
        eventually(lambda: engine.served.grpc.call("ServerLive").status is StatusCode.UNAVAILABLE, "it drains")
        assert not running.done()
        engine.release()
        answer = message("ModelInferResponse").FromString(running.result())
        assert answer.raw_output_contents[0] == HELD.tobytes()
    assert engine.served.process.wait(timeout=30) == 0


def test_empty_contents_are_an_empty_tensor(client: Grpc) -> None:
    request = message("ModelInferRequest", model_name="echo_fp32", inputs=[tensor("x", "FP32", [0, 3])])
    assert client.infer_message(request).arrays()["output"].shape == (0, 3)
