"""Arrays in the bodies of inference requests and answers: a JSON head, then the bytes of each tensor."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from samovar.codecs.elements import dtype_of, pack_texts, unpack_texts
from samovar.errors import InputError, ServerError
from samovar.types import Datatype

__all__ = ["decode", "encode"]


def encode(inputs: Mapping[str, Any], outputs: Sequence[str]) -> tuple[int, bytes]:
    """Length of the head, and the body. Raises InputError for what no datatype of the protocol holds."""
    tensors, blobs = [], []
    for name, value in inputs.items():
        datatype, shape, blob = _encode(name, value)
        parameters = {"binary_data_size": len(blob)}
        tensors.append({"name": name, "datatype": datatype.name, "shape": shape, "parameters": parameters})
        blobs.append(blob)
    request: dict[str, Any] = {"inputs": tensors, "parameters": {"binary_data_output": True}}  # of unnamed outputs
    if outputs:
        request["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    head = json.dumps(request).encode()
    return len(head), b"".join([head, *blobs])


def decode(head_length: int, body: bytes) -> dict[str, Any]:
    """The outputs of an answer by name; read-only views of `body` unless they are texts. Raises ServerError."""
    try:
        outputs = json.loads(body[:head_length])["outputs"]
        return _decode(outputs, memoryview(body)[head_length:])
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"the answer is no binary inference answer: {error!r}") from error


def _encode(name: str, value: Any) -> tuple[Datatype, list[int], bytes]:
    import numpy as np

    array = np.asarray(value)
    shape = list(array.shape)
    if array.dtype.kind in "OSU":
        return Datatype.BYTES, shape, pack_texts(_text(name, element) for element in array.ravel().tolist())
    datatype = Datatype.of_numpy(array.dtype.name)
    if datatype is None:
        raise InputError(
            f'input "{name}" has dtype {array.dtype}, which no datatype of the protocol holds',
            "convert it with .astype(...)",
        )
    return datatype, shape, array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _text(name: str, element: Any) -> bytes:
    if isinstance(element, str):
        return element.encode("utf-8", "surrogatepass")
    if isinstance(element, bytes):
        return element
    raise InputError(f'input "{name}" has an element of type {type(element).__name__}', "texts are str or bytes")


def _decode(outputs: Sequence[dict[str, Any]], data: memoryview) -> dict[str, Any]:
    import numpy as np

    arrays, position = {}, 0
    for output in outputs:
        datatype, shape = Datatype[output["datatype"]], tuple(output["shape"])
        blob = data[position : position + output["parameters"]["binary_data_size"]]
        position += len(blob)
        if datatype is Datatype.BYTES:
            arrays[output["name"]] = unpack_texts(blob, shape)
        else:
            arrays[output["name"]] = np.frombuffer(blob, dtype_of(datatype)).reshape(shape)
    return arrays
