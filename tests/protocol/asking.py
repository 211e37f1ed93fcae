"""A request as no door writes it yet, and each way in which a door writes one."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
from grpc import StatusCode

from grpc_door import CONTENTS, Reply, message
from grpc_door import tensor as grpc_tensor
from http_door import DATATYPES, LENGTH_HEADER, Answer, to_bytes
from serving import Served

STATUS = {
    "invalid_request": (400, "INVALID_ARGUMENT"),
    "invalid_input": (400, "INVALID_ARGUMENT"),
    "invalid_name": (400, "INVALID_ARGUMENT"),
    "unknown_output": (400, "INVALID_ARGUMENT"),
    "unknown_model": (404, "NOT_FOUND"),
    "unknown_version": (404, "NOT_FOUND"),
    "payload_too_large": (413, "RESOURCE_EXHAUSTED"),
}
"""What each door says of a code."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One input. Its bytes are those of its values, unless a test says others."""

    name: str = "x"
    datatype: str = "FP32"
    shape: Sequence[int] = (1, 2)
    values: Sequence[Any] = (1, 2)
    blob: bytes | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def bytes(self) -> bytes:
        """The elements as the binary forms send them."""
        if self.blob is not None:
            return self.blob
        values = [value.encode() for value in self.values] if self.datatype == "BYTES" else self.values
        return to_bytes(np.array(values, DATATYPES.get(self.datatype, np.dtype("<f4"))))


@dataclass(frozen=True, kw_only=True)
class Ask:
    """An inference request; outputs are names with their parameters."""

    model: str = "echo_fp32"
    version: str | None = None
    id: str | None = None
    inputs: Sequence[Tensor] = (Tensor(),)
    outputs: Sequence[tuple[str, Mapping[str, Any]]] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came back: the door's own status, and of a refusal its code, text and request id."""

    status: int | str
    code: str | None = None
    message: str = ""
    id: str = ""


def in_json(served: Served, ask: Ask) -> Outcome:
    """HTTP with numbers and strings."""
    tensors = [_head(tensor) | {"data": list(tensor.values)} for tensor in ask.inputs]
    return of_http(served.http.request("POST", _path(ask), json.dumps(_request(ask, tensors)).encode()))


def in_blobs(served: Served, ask: Ask) -> Outcome:
    """HTTP with blobs behind the JSON."""
    blobs = [tensor.bytes() for tensor in ask.inputs]
    tensors = []
    for tensor, blob in zip(ask.inputs, blobs, strict=True):
        parameters = {"binary_data_size": len(blob), **tensor.parameters}
        tensors.append(_head(tensor) | {"parameters": parameters})
    head = json.dumps(_request(ask, tensors)).encode()
    headers = {LENGTH_HEADER: str(len(head))}
    return of_http(served.http.request("POST", _path(ask), b"".join([head, *blobs]), headers))


def of_http(answer: Answer) -> Outcome:
    """An answer of the HTTP door."""
    if answer.status == 200:
        return Outcome(200)
    error = answer.json()
    return Outcome(answer.status, error["code"], error["error"], error["id"])


def in_raw_contents(served: Served, ask: Ask) -> Outcome:
    """gRPC with what lies in memory."""
    request = _message(ask, [_input(tensor, tensor.parameters) for tensor in ask.inputs])
    request.raw_input_contents.extend(tensor.bytes() for tensor in ask.inputs)
    return of_grpc(served.grpc.infer_message(request))


def in_typed_contents(served: Served, ask: Ask) -> Outcome:
    """gRPC with numbers of protobuf; the field for an unknown datatype is that of FP32."""
    inputs = []
    for tensor in ask.inputs:
        values = [value.encode() for value in tensor.values] if tensor.datatype == "BYTES" else tensor.values
        contents = message("InferTensorContents", **{CONTENTS.get(tensor.datatype, "fp32_contents"): values})
        inputs.append(_input(tensor, tensor.parameters, contents=contents))
    return of_grpc(served.grpc.infer_message(_message(ask, inputs)))


def of_grpc(reply: Reply) -> Outcome:
    """An answer of the gRPC door."""
    if reply.status is StatusCode.OK:
        return Outcome(reply.status.name)
    return Outcome(reply.status.name, reply.reason, reply.text, reply.request_id)


def _input(tensor: Tensor, parameters: Mapping[str, Any], **fields: Any) -> Any:
    fields["parameters"] = {key: _parameter(value) for key, value in parameters.items()}
    return grpc_tensor(tensor.name, tensor.datatype, tensor.shape, **fields)


def _message(ask: Ask, inputs: list[Any]) -> Any:
    outputs = [
        message(
            "inference.ModelInferRequest.InferRequestedOutputTensor",
            name=name,
            parameters={key: _parameter(value) for key, value in parameters.items()},
        )
        for name, parameters in ask.outputs
    ]
    return message(
        "ModelInferRequest",
        model_name=ask.model,
        model_version=ask.version or "",
        id=ask.id or "",
        inputs=inputs,
        outputs=outputs,
        parameters={key: _parameter(value) for key, value in ask.parameters.items()},
    )


def _parameter(value: Any) -> Any:
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    return message("InferParameter", **{kinds[type(value)]: value})


def _head(tensor: Tensor) -> dict[str, Any]:
    head = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    return head | ({"parameters": dict(tensor.parameters)} if tensor.parameters else {})


def _request(ask: Ask, tensors: list[dict[str, Any]]) -> dict[str, Any]:
    outputs = [{"name": name, "parameters": dict(parameters)} for name, parameters in ask.outputs]
    return {"id": ask.id, "parameters": dict(ask.parameters), "inputs": tensors, "outputs": outputs}


def _path(ask: Ask) -> str:
    version = "" if ask.version is None else f"/versions/{quote(ask.version, safe='')}"
    return f"/v2/models/{quote(ask.model, safe='')}{version}/infer"


FORMS: dict[str, Callable[[Served, Ask], Outcome]] = {
    "json": in_json,
    "blobs": in_blobs,
    "raw": in_raw_contents,
    "typed": in_typed_contents,
}
"""Each way to send one and the same request."""


def ask_arrays(served: Served, form: str, model: str, inputs: Mapping[str, np.ndarray]) -> Answer | Reply:
    """A good request in one of FORMS."""
    send: dict[str, Callable[[str, Mapping[str, np.ndarray]], Answer | Reply]] = {
        "json": served.http.infer,
        "blobs": served.http.infer_binary,
        "raw": served.grpc.infer_binary,
        "typed": served.grpc.infer,
    }
    return send[form](model, inputs)
