"""A request to try: the curl line that the start prints."""

import json
import re
import shlex
from math import prod
from typing import Any

from samovar.types import Datatype, Signature, TensorSpec

__all__ = ["curl_line"]

_MAX_JSON_ELEMENTS = 64
_NOT_IN_JSON = frozenset({Datatype.FP16, Datatype.BF16})


def curl_line(model: dict[str, Any], url: str, socket: str | None) -> str:
    """A shell command that calls the model with one row of zeros; small inputs as JSON, others as bytes.

    `model` has the keys of a description, `socket` is the path of a Unix socket that curl must use.
    """
    signature = Signature.from_json(model)
    inputs = [_example(spec, batch_axis=signature.batch_axis) for spec in signature.inputs]
    is_small = sum(prod(tensor["shape"]) for tensor in inputs) <= _MAX_JSON_ELEMENTS
    as_json = is_small and not any(spec.datatype in _NOT_IN_JSON for spec in signature.inputs)
    answer_as_json = not any(spec.datatype in _NOT_IN_JSON for spec in signature.outputs)
    curl = [
        "curl",
        *(["--unix-socket", shlex.quote(socket)] if socket else []),
        f"{url}/v2/models/{model['name']}/infer",
    ]
    request: dict[str, Any] = {} if answer_as_json else {"parameters": {"binary_data_output": True}}
    curl += [] if answer_as_json else ["--output", "answer.bin"]
    if as_json:
        body = {**request, "inputs": [{**tensor, "data": _values(tensor)} for tensor in inputs]}
        return " ".join([*curl, "-H", "'Content-Type: application/json'", "-d", shlex.quote(json.dumps(body))])
    return _binary(curl, request, inputs)


def _binary(curl: list[str], request: dict[str, Any], inputs: list[dict[str, Any]]) -> str:
    """The same in the binary tensor extension: a JSON header, then zeros."""
    sizes = [_bytes(tensor) for tensor in inputs]
    tensors = [{**tensor, "parameters": {"binary_data_size": size}} for tensor, size in zip(inputs, sizes, strict=True)]
    header = json.dumps({**request, "inputs": tensors})
    words = [*curl, "-H", "'Content-Type: application/octet-stream'"]
    words += ["-H", f"'Inference-Header-Content-Length: {len(header.encode())}'", "--data-binary", "@-"]
    return f"(printf %s {shlex.quote(header)}; head -c {sum(sizes)} /dev/zero) | {' '.join(words)}"


def _example(spec: TensorSpec, *, batch_axis: bool) -> dict[str, Any]:
    """A tensor without its data; one axis of FP32 where the file says nothing."""
    shape = [1] * batch_axis + [1 if dim < 0 else dim for dim in (spec.dims if spec.dims is not None else (-1,))]
    return {"name": spec.name, "datatype": (spec.datatype or Datatype.FP32).name, "shape": shape}


def _values(tensor: dict[str, Any]) -> list[Any]:
    value: Any = {"BOOL": False, "BYTES": "text"}.get(tensor["datatype"], 0)
    if tensor["datatype"].startswith("FP"):
        value = 0.5
    return [value] * prod(tensor["shape"])


def _bytes(tensor: dict[str, Any]) -> int:
    datatype = tensor["datatype"]
    bits = re.sub("[A-Z]", "", datatype) or {"BOOL": 8, "BYTES": 32}[datatype]  # of an empty text: its length
    return int(prod(tensor["shape"])) * int(bits) // 8
