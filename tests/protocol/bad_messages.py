"""Bytes that are no ModelInferRequest, or one that says two things: words that the text must have."""

from collections.abc import Mapping, Sequence
from typing import Any

from grpc_door import message, tensor


def request(*inputs: Any, raw: Sequence[bytes] = ()) -> bytes:
    """A message of these inputs; the test says of which model."""
    return bytes(message("ModelInferRequest", inputs=inputs, raw_input_contents=raw).SerializeToString())


def x(**fields: Any) -> Any:
    """The input of a good request, and more."""
    return tensor("x", "FP32", [1, 2], **fields)


def contents(**fields: Any) -> Any:
    """Typed contents."""
    return message("InferTensorContents", **fields)


def field(number: int, wire_type: int, rest: bytes = b"") -> bytes:
    """A field in any bytes behind a good request."""
    return GOOD + bytes([number << 3 | wire_type]) + rest


GOOD = request(x(), raw=[bytes(8)])
TABLE: Mapping[str, tuple[bytes, tuple[str, ...]]] = {
    "JSON": (b'{"inputs":[]}', ("no valid protobuf",)),
    "cut off": (GOOD[:-1], ("no valid protobuf", "8 bytes follow, but 7 do")),
    "half a key": (GOOD + b"\x80", ("no valid protobuf", "does not end")),
    "endless number": (field(3, 0, b"\xff" * 11), ("no valid protobuf", "does not end")),
    "number of 65 bits": (field(15, 0, b"\xff" * 9 + b"\x02"), ("no valid protobuf", "64 bits")),
    "field 0": (GOOD + b"\x02\x00", ("no valid protobuf", "number 0")),
    "group": (field(15, 3), ("no valid protobuf", "wire type 3")),
    "wire type 7": (field(15, 7), ("no valid protobuf", "wire type 7")),
    "length without end": (field(15, 2, b"\xff" * 9 + b"\x01"), ("no valid protobuf", "bytes follow")),
    "half a double": (field(15, 1, b"1234"), ("no valid protobuf", "middle of a number")),
    "number for a name": (field(1, 0, b"\x01"), ("`model_name`", "another type")),
    "number for an input": (field(5, 0, b"\x01"), ("`inputs`", "another type")),
    "id that is no UTF-8": (field(3, 2, b"\x01\xff"), ("`id` is not UTF-8",)),
    "input without a name": (request(tensor("", "FP32", [1, 2]), raw=[bytes(8)]), ("`name`",)),
    "output without a name": (field(6, 2, b"\x00"), ("an output has no `name`",)),
    "no contents": (request(x()), ('"x"', "neither `contents` nor raw_input_contents")),
    "too many raw contents": (request(x(), raw=[bytes(8)] * 2), ("1 inputs and 2 raw_input_contents",)),
    "raw and typed": (request(x(contents=contents(fp32_contents=[1, 2])), raw=[bytes(8)]), ("both `contents` and",)),
    "contents of another datatype": (request(x(contents=contents(int_contents=[1, 2]))), ("int_contents", "FP32")),
    "contents of two datatypes": (
        request(x(contents=contents(fp32_contents=[1, 2], bool_contents=[True]))),
        ("bool_contents", "FP32"),
    ),
    "1,025 raw contents": (request(x(), raw=[b""] * 1_025), ("1024 inputs",)),
    "parameter of no kind": (field(4, 2, b"\x05\x0a\x01p\x12\x00"), ('"p"', "a number or a string")),
    "a parameter twice": (
        field(4, 2, b"\x07\x0a\x01p\x12\x02\x08\x01") + b"\x22\x07\x0a\x01p\x12\x02\x08\x01",
        ("twice",),
    ),
}
