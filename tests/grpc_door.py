"""The Open Inference Protocol over gRPC, with messages made from `proto/` when they are first needed."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from http_door import DATATYPES, datatype, from_bytes, to_bytes

PROTOS = Path(__file__).parents[1] / "proto"
SERVICE = "inference.GRPCInferenceService"
# Which field of InferTensorContents holds which datatype.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # no connection, and no memory of a failed one, is shared between tests
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
)


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "protos"
        arguments = [f"-I{PROTOS}", "--include_imports", f"--descriptor_set_out={compiled}"]
        # A process of its own: its protobuf and those of TensorFlow and Paddle in one process end in a crash.
        protoc = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
        subprocess.run([*protoc, "inference.proto", "health.proto", "status.proto"], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
    for file in files.file:
        pool.Add(file)
    return pool


def message(name: str, /, **fields: Any) -> Any:
    """A message by its full name, or by its name in `inference`."""
    full = name if "." in name else f"inference.{name}"
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full))(**fields)


@dataclass(frozen=True)
class Reply:
    """One answer: a message, or an error."""

    status: grpc.StatusCode
    content: Any = None
    text: str = ""
    reason: str = ""
    """Slug of the error catalogue."""
    request_id: str = ""
    retry_after_s: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Initial and trailing metadata."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The outputs by name; fails on an error."""
        assert self.status is grpc.StatusCode.OK, f"{self.status} {self.text}"
        outputs, raw = self.content.outputs, self.content.raw_output_contents
        assert len(outputs) == len(raw), "one raw entry for each output"
        return {
            output.name: from_bytes(data, DATATYPES[output.datatype]).reshape(output.shape)
            for output, data in zip(outputs, raw, strict=True)
        }

    def code(self) -> str:
        """The slug of an error."""
        return self.reason


class Grpc:
    """A client of one engine; every call has a channel of its own unless one is given."""

    def __init__(self, port: int, timeout_s: float = 30.0, host: str = "127.0.0.1") -> None:
        self.port = port
        self.timeout_s = timeout_s
        self.host = host

    @contextmanager
    def connect(self) -> Iterator[grpc.Channel]:
        """A channel to pass to `send`, for several calls on one connection."""
        with grpc.insecure_channel(f"{self.host}:{self.port}", options=OPTIONS) as channel:
            yield channel

    def send(
        self,
        method: str,
        content: bytes,
        metadata: Mapping[str, str] | None = None,
        channel: grpc.Channel | None = None,
        **options: Any,
    ) -> Reply:
        """One call of `service/method` with a message in any bytes; the answer's content is bytes too."""
        if channel is None:
            with self.connect() as own:
                return self.send(method, content, metadata, own, **options)
        pairs = tuple((metadata or {}).items())
        call = channel.unary_unary(f"/{method}", request_serializer=None, response_deserializer=None)
        try:
            answer, ended = call.with_call(content, metadata=pairs, **{"timeout": self.timeout_s, **options})
        except grpc.RpcError as error:
            return _error(error)
        return Reply(ended.code(), answer, metadata=_metadata(ended))

    def call(self, method: str, name: str = "", version: str = "", **fields: Any) -> Reply:
        """One call of the inference service, its request made of fields."""
        if name or version:
            key = "model_name" if method.startswith("Repository") else "name"
            fields |= {key: name} | ({"version": version} if version else {})
        reply = self.send(f"{SERVICE}/{method}", message(f"{method}Request", **fields).SerializeToString())
        return _decoded(reply, f"{method}Response")

    def infer(self, model: str, inputs: Mapping[str, np.ndarray], **metadata: str) -> Reply:
        """An inference request with typed contents."""
        tensors = [typed_tensor(name, array) for name, array in inputs.items()]
        return self.infer_message(message("ModelInferRequest", model_name=model, inputs=tensors), **metadata)

    def infer_binary(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = (), **metadata: str
    ) -> Reply:
        """An inference request with raw contents."""
        return self.infer_message(raw_request(model, inputs, outputs), **metadata)

    def infer_message(self, request: Any, **metadata: str) -> Reply:
        """An inference request as it is; `samovar_timeout_ms="5"` becomes the metadata `samovar-timeout-ms`."""
        named = {name.replace("_", "-"): value for name, value in metadata.items()}
        return self.infer_bytes(request.SerializeToString(), named)

    def infer_bytes(self, content: bytes, metadata: Mapping[str, str] | None = None, **options: Any) -> Reply:
        """An inference request in any bytes."""
        return _decoded(self.send(f"{SERVICE}/ModelInfer", content, metadata, **options), "ModelInferResponse")


def raw_request(model: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> Any:
    """A ModelInferRequest with raw contents."""
    tensors = [tensor(name, datatype(array), array.shape) for name, array in inputs.items()]
    raw = [to_bytes(array) for array in inputs.values()]
    wanted = [message("inference.ModelInferRequest.InferRequestedOutputTensor", name=name) for name in outputs]
    return message("ModelInferRequest", model_name=model, inputs=tensors, outputs=wanted, raw_input_contents=raw)


def tensor(name: str, dtype: str, shape: Sequence[int], **fields: Any) -> Any:
    """An input without its data."""
    return message("inference.ModelInferRequest.InferInputTensor", name=name, datatype=dtype, shape=shape, **fields)


def typed_tensor(name: str, array: np.ndarray) -> Any:
    """An input with its data as numbers of protobuf."""
    dtype = datatype(array)
    contents = message("InferTensorContents", **{CONTENTS[dtype]: array.ravel().tolist()})
    return tensor(name, dtype, array.shape, contents=contents)


def _decoded(reply: Reply, kind: str) -> Reply:
    if reply.status is not grpc.StatusCode.OK:
        return reply
    content = message(kind)
    content.ParseFromString(reply.content)
    return Reply(reply.status, content, metadata=reply.metadata)


def _metadata(call: Any) -> dict[str, Any]:
    return {**dict(call.initial_metadata() or ()), **dict(call.trailing_metadata() or ())}


def _error(error: Any) -> Reply:
    """What the trailers say; an error of the client itself has no reason."""
    metadata = _metadata(error)
    reply = Reply(error.code(), text=error.details(), metadata=metadata)
    if "grpc-status-details-bin" not in metadata:
        return reply
    status = message("google.rpc.Status")
    status.ParseFromString(metadata["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found = {}
    for detail in status.details:
        found[detail.TypeName()] = message(detail.TypeName())
        assert detail.Unpack(found[detail.TypeName()])
    info, retry = found["google.rpc.ErrorInfo"], found.get("google.rpc.RetryInfo")
    assert info.domain == "samovar"
    return Reply(
        reply.status,
        text=reply.text,
        reason=info.reason,
        request_id=info.metadata["id"],
        retry_after_s=None if retry is None else retry.retry_delay.seconds,
        metadata=metadata,
    )
