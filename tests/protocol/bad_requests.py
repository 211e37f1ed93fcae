"""Requests that no model can serve, through whatever door: the code that says so, and words that its text must have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protocol.asking import FORMS, Ask, Tensor

X = Tensor()
A = Tensor(name="a")
LONG = "z" * 5_000
LONG_NAME = "z" * 1_024
"""The longest that an input, output or parameter may have."""
NUMBERS = ("json", "typed")
"""Forms that carry single elements,"""
BYTES = ("blobs", "raw")
"""and forms that carry what lies in memory."""


@dataclass(frozen=True, kw_only=True)
class Bad:
    """What is asked, in which forms, and what is said to it."""

    ask: Ask
    words: tuple[str, ...]
    code: str = "invalid_request"
    forms: Sequence[str] = tuple(FORMS)


def x(model: str = "echo_fp32", *, words: tuple[str, ...], code: str = "invalid_request", **changes: Any) -> Bad:
    """A request whose one input differs from a good one."""
    forms = changes.pop("forms", tuple(FORMS))
    return Bad(ask=Ask(model=model, inputs=[Tensor(**changes)]), words=words, code=code, forms=forms)


def misfit(*inputs: Tensor, words: tuple[str, ...], model: str = "echo_fp32", **ask: Any) -> Bad:
    """Inputs that do not fit the model."""
    return Bad(ask=Ask(model=model, inputs=inputs, **ask), code="invalid_input", words=words)


def wanting(*outputs: tuple[str, dict[str, Any]], words: tuple[str, ...], code: str = "invalid_request") -> Bad:
    """Outputs that cannot be had."""
    return Bad(ask=Ask(outputs=outputs), code=code, words=words)


def saying(words: tuple[str, ...], **parameters: Any) -> Bad:
    """Parameters of the request."""
    return Bad(ask=Ask(parameters=parameters), words=words)


SIGNATURE = {
    "no input at all": misfit(words=('"x"', "missing")),
    "missing input": misfit(A, model="sum", words=('"b"', "missing")),
    "misspelt input": misfit(Tensor(name="X"), words=('"x"', '"X"')),
    "extra input": misfit(X, Tensor(name="y"), words=('"y"', '"x"')),
    "long name": misfit(X, Tensor(name=LONG_NAME), words=("zzz", '"x"')),
    "datatype": misfit(Tensor(datatype="FP64"), words=("FP64", "wanted FP32", "send it as FP32")),
    "rank too low": misfit(Tensor(shape=[2]), words=("[2]", "[batch,-1]", "send 2 axes")),
    "rank too high": misfit(Tensor(shape=[1, 2, 1]), words=("[1, 2, 1]", "2 axes")),
    "no axis": misfit(Tensor(shape=[], values=[1]), words=("[]", "[batch,-1]")),
    "length": misfit(
        Tensor(name="matrix", datatype="FP64", shape=[2, 3], values=[0] * 6),
        model="nobatch",
        words=("[2, 3]", "[2,2]", "axis 1 must be 2"),
    ),
    "rows differ": misfit(A, Tensor(name="b", shape=[2, 1]), model="sum", words=('"b"', "2 rows")),
    "rows without end": misfit(Tensor(shape=[2**50, 0], values=[]), words=("items",)),
    "unknown output": wanting(("y", {}), code="unknown_output", words=('"y"', '"output"')),
    "long output": wanting((LONG_NAME, {}), code="unknown_output", words=("zzz", '"output"')),
}
NAMES = {
    "unknown model": Bad(ask=Ask(model="nobody"), code="unknown_model", words=('"nobody"', "index")),
    "unknown version": Bad(ask=Ask(version="7"), code="unknown_version", words=('"7"', "it has 1")),
    "model that none can have": Bad(ask=Ask(model="a b"), code="invalid_name", words=("is no name", "letters")),
    "version that none can have": Bad(ask=Ask(version="-1"), code="invalid_name", words=("-1", "is no name")),
    "model of 256 letters": Bad(ask=Ask(model="n" * 256), code="invalid_name", words=("at most 255",)),
}
SHAPES = {
    "17 axes": x(shape=[1] * 17, words=('"x"', "16 axes")),
    "negative axis": x(shape=[-1, 2], words=('"x"', "-1")),
    "most negative axis": x(shape=[1, -(2**63)], words=('"x"', "-9223372036854775808")),
    "axes overflow": x(shape=[2**62, 2**62], words=('"x"', "64 bits")),
    "axes overflow to a fitting number": x(shape=[2**31, 2**33, 2], words=('"x"', "64 bits")),
    "long shape": x(shape=[2**62] * 16, words=('"x"', "64 bits", "…")),
    "huge shape": x(shape=[1, 2**40], words=('"x"', "1099511627776")),
    "too few": x(values=[1], words=('"x"', "2")),
    "too many": x(values=[1, 2, 3], words=('"x"', "2")),
    "an element too many for none": x(shape=[1, 0], values=[1], words=('"x"', "0")),
}
COUNTS = {
    "one input twice": Bad(ask=Ask(inputs=[X, X]), words=('"x"', "twice")),
    "one output twice": wanting(("output", {}), ("output", {}), words=('"output"', "twice")),
    "1,025 inputs": Bad(ask=Ask(inputs=[Tensor(name=f"x{n}") for n in range(1_025)]), words=("1024 inputs",)),
    "65 outputs": wanting(*((f"o{n}", {}) for n in range(65)), words=("64 outputs",)),
    "257 parameters": saying(("256",), **{f"p{n}": n for n in range(257)}),
    "long parameters": saying(("at most 65536", "as an input"), p="p" * 70_000),
    "input of 1,025 letters": x(name=LONG_NAME + "z", words=("zzz", "1025 bytes", "at most 1024")),
    "output of 1,025 letters": wanting((LONG_NAME + "z", {}), words=("zzz", "1025 bytes", "at most 1024")),
    "parameter of 1,025 letters": saying(("zzz", "1025 bytes", "at most 1024"), **{LONG_NAME + "z": 1}),
    "long id": Bad(ask=Ask(id=LONG), words=("5000", "1024")),
}
ELEMENTS = {
    "unknown datatype": x(datatype="FLOAT", words=('"x"', "FLOAT", "FP32")),
    "long datatype": x(datatype=LONG, words=('"x"', "zzz", "FP32")),
    "datatype in small letters": x(datatype="fp32", words=('"x"', "fp32", "FP32")),
    "no datatype": x(datatype="", words=('"x"', "datatype")),
    "too large for INT8": x("echo_int8", datatype="INT8", values=[1, 300], words=("300", "INT8"), forms=NUMBERS),
    "too small for INT8": x("echo_int8", datatype="INT8", values=[1, -129], words=("-129", "INT8"), forms=NUMBERS),
    "FP16 in numbers": x(datatype="FP16", words=('"x"', "FP16"), forms=NUMBERS),
    "BF16 in numbers": x(datatype="BF16", words=('"x"', "BF16"), forms=NUMBERS),
    "BOOL beyond 1": x("echo_bool", datatype="BOOL", blob=b"\x02\x01", words=("BOOL",), forms=BYTES),
    "half an element": x(blob=bytes(7), words=('"x"', "7 bytes", "takes 8"), forms=BYTES),
    "BYTES beyond the end": x(
        "echo_bytes", datatype="BYTES", blob=b"\x09\0\0\0a", words=('"x"', "behind the end"), forms=BYTES
    ),
    "BYTES with half a length": x(
        "echo_bytes", datatype="BYTES", blob=b"\0\0\0\0\x01\0", words=('"x"', "behind the end"), forms=BYTES
    ),
    "BYTES of another count": x(
        "echo_bytes", datatype="BYTES", blob=b"\x01\0\0\0a", words=('"x"', "1 BYTES elements"), forms=BYTES
    ),
}
PARAMETERS = {
    "reserved parameter": saying(("triton_",), triton_x=1),
    "negative timeout": saying(('"timeout"', "got -1", "microseconds"), timeout=-1),
    "timeout of text": saying(('"timeout"', 'got "soon"', "microseconds"), timeout="soon"),
    "shared memory for an input": x(parameters={"shared_memory_region": "r"}, words=("shared memory",)),
    "shared memory for an output": wanting(("output", {"shared_memory_region": "r"}), words=("shared memory",)),
    "classification": wanting(("output", {"classification": 2}), words=("classification",)),
}
TABLE = {**SIGNATURE, **NAMES, **SHAPES, **COUNTS, **ELEMENTS, **PARAMETERS}
