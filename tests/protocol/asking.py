"""A request as no door writes it yet, and each way in which a door writes one."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np

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


def _head(tensor: Tensor) -> dict[str, Any]:
    head = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    return head | ({"parameters": dict(tensor.parameters)} if tensor.parameters else {})


def _request(ask: Ask, tensors: list[dict[str, Any]]) -> dict[str, Any]:
    outputs = [{"name": name, "parameters": dict(parameters)} for name, parameters in ask.outputs]
    return {"id": ask.id, "parameters": dict(ask.parameters), "inputs": tensors, "outputs": outputs}


def _path(ask: Ask) -> str:
    version = "" if ask.version is None else f"/versions/{quote(ask.version, safe='')}"
    return f"/v2/models/{quote(ask.model, safe='')}{version}/infer"


FORMS: dict[str, Callable[[Served, Ask], Outcome]] = {"json": in_json, "blobs": in_blobs}
"""Each way to send one and the same request."""
