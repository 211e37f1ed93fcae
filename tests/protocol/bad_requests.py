"""A table of requests that cannot be served, each with the status and code that say so and words that help."""

import json
from dataclasses import dataclass, field
from typing import Any

from http_door import LENGTH_HEADER

X: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
MATRIX: dict[str, Any] = {"name": "matrix", "datatype": "FP64", "shape": [2, 2], "data": [1, 2, 3, 4]}
LONG = "z" * 5_000


@dataclass(kw_only=True)
class Bad:
    """What is sent, what comes back, and words that its text must have."""

    content: Any = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    model: str = "echo_fp32"
    status: int = 400
    code: str = "invalid_request"
    words: tuple[str, ...]


def x(**changes: Any) -> dict[str, Any]:
    """A request whose one input differs from a good one."""
    return {"inputs": [{**X, **changes}]}


def number(text: str, datatype: str = "FP32", model: str = "echo_fp32", words: tuple[str, ...] = ()) -> Bad:
    """A request with one element."""
    head = json.dumps({"name": "x", "datatype": datatype, "shape": [1, 1]})[:-1]
    return Bad(body=f'{{"inputs":[{head},"data":[{text}]}}]}}'.encode(), model=model, words=words or (text,))


def blob(size: int, data: bytes, shape: tuple[int, ...] = (1, 2), datatype: str = "FP32", **bad: Any) -> Bad:
    """A binary input of `size` announced bytes, followed by `data`."""
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return Bad(body=head + data, headers={LENGTH_HEADER: str(len(head))}, **bad)


GOOD = json.dumps({"inputs": [X]}).encode()
SIGNATURE = {
    "no input at all": Bad(content={"inputs": []}, code="invalid_input", words=('"x"', "missing")),
    "missing input": Bad(content={"inputs": [{**X, "name": "a"}]}, model="sum", code="invalid_input", words=('"b"',)),
    "misspelt input": Bad(content=x(name="X"), code="invalid_input", words=('"x"', '"X"')),
    "unknown input": Bad(content={"inputs": [X, {**X, "name": "y"}]}, code="invalid_input", words=('"y"', '"x"')),
    "long name": Bad(content={"inputs": [X, {**X, "name": LONG}]}, code="invalid_input", words=("zzz", '"x"')),
    "datatype": Bad(content=x(datatype="FP64"), code="invalid_input", words=("FP64", "FP32")),
    "rank too low": Bad(content=x(shape=[2]), code="invalid_input", words=("[2]", "[batch,-1]")),
    "rank too high": Bad(content=x(shape=[1, 2, 1]), code="invalid_input", words=("[1, 2, 1]", "2 axes")),
    "no axis": Bad(content=x(shape=[], data=[1]), code="invalid_input", words=("[]", "[batch,-1]")),
    "length": Bad(
        content={"inputs": [{**MATRIX, "shape": [2, 3], "data": [0] * 6}]},
        model="nobatch",
        code="invalid_input",
        words=("[2, 3]", "[2,2]", "axis 1"),
    ),
    "rows differ": Bad(
        content={"inputs": [{**X, "name": "a"}, {**X, "name": "b", "shape": [2, 1]}]},
        model="sum",
        code="invalid_input",
        words=('"b"', "2 rows"),
    ),
    "unknown output": Bad(
        content={"inputs": [X], "outputs": [{"name": "y"}]}, code="unknown_output", words=('"y"', '"output"')
    ),
    "long output": Bad(content={"inputs": [X], "outputs": [{"name": LONG}]}, code="unknown_output", words=("zzz",)),
    "rows without end": Bad(content=x(shape=[2**50, 0], data=[]), code="invalid_input", words=("items",)),
}
JSON = {
    "empty body": Bad(body=b"", words=("empty",)),
    "no JSON": Bad(body=b"hello", words=("hello", "byte 0")),
    "a list": Bad(body=b"[]", words=("`{`",)),
    "cut off": Bad(body=GOOD[:30], words=("the end",)),
    "trailing": Bad(body=GOOD + b"x", words=("`x`", "end of the document")),
    "byte order mark": Bad(body=b"\xef\xbb\xbf" + GOOD, words=("byte 0",)),
    "no UTF-8": Bad(body=b'{"id":"\xff","inputs":[]}', words=("UTF-8",)),
    "lone surrogate": Bad(body=b'{"id":"\\ud800","inputs":[]}', words=("JSON",)),
    "control character": Bad(body=b'{"id":"a\nb","inputs":[]}', words=("JSON",)),
    "deep arrays": Bad(content=x(data=0), body=GOOD.replace(b"[1, 2]}", b"[" * 65 + b"]" * 65 + b"}"), words=("64",)),
    "very deep arrays": Bad(body=GOOD.replace(b"[1, 2]}", b"[" * 100_000), words=("64 levels",)),
    "very deep objects": Bad(body=b'{"a":' * 100_000, words=("64 levels",)),
    "inputs missing": Bad(content={}, words=("`inputs`",)),
    "inputs twice": Bad(body=b'{"inputs":[],"inputs":[]}', words=("`inputs`", "twice")),
    "inputs no list": Bad(content={"inputs": {}}, words=("`[`",)),
    "one input twice": Bad(content={"inputs": [X, X]}, words=('"x"', "twice")),
    "one output twice": Bad(content={"inputs": [X], "outputs": [{"name": "output"}] * 2}, words=("output", "twice")),
    "1,025 inputs": Bad(content={"inputs": [{**X, "name": f"x{n}"} for n in range(1_025)]}, words=("1024 inputs",)),
    "65 outputs": Bad(content={"inputs": [X], "outputs": [{"name": f"o{n}"} for n in range(65)]}, words=("64",)),
    "id": Bad(content={"id": 3, "inputs": [X]}, words=("`3", "string")),
    "long id": Bad(content={"id": LONG, "inputs": [X]}, words=("5000", "1024")),
    "no name": Bad(content={"inputs": [{"datatype": "FP32", "shape": [1], "data": [1]}]}, words=("`name`",)),
    "no datatype": Bad(content={"inputs": [{"name": "x", "shape": [1], "data": [1]}]}, words=("`datatype`", '"x"')),
    "no shape": Bad(content={"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}, words=("`shape`", '"x"')),
    "no data": Bad(content={"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}, words=("`data`",)),
    "unknown datatype": Bad(content=x(datatype="FLOAT"), words=("FLOAT", "FP32")),
    "long datatype": Bad(content=x(datatype=LONG), words=("zzz",)),
    "too few": Bad(content=x(data=[1]), words=('"x"', "1 elements", "2")),
    "too many": Bad(content=x(data=[1, 2, 3]), words=('"x"', "more elements", "2")),
    "no array": Bad(content=x(data=1), words=("array",)),
    "17 axes": Bad(content=x(shape=[1] * 17), words=("16 axes",)),
    "negative axis": Bad(content=x(shape=[-1, 2]), words=("`-1`",)),
    "broken axis": Bad(content=x(shape=[1.0, 2]), words=("`1.0`", "integer")),
    "axes overflow": Bad(content=x(shape=[2**62, 2**62]), words=("64 bits",)),
    "axis overflows": Bad(content=x(shape=[2**64, 1]), words=("18446744073709551616",)),
    "huge shape": Bad(content=x(shape=[1, 2**40]), words=("fewer elements",)),
    "text for number": Bad(content=x(data=["a", 2]), words=('"x"', "no number")),
    "null for number": Bad(content=x(data=[None, 2]), words=("`null`", "no number")),
    "NaN": number("NaN"),
    "infinity": number("-Infinity"),
    "too large for FP32": number("1e39", words=("1e39", "FP32")),
    "too large for FP64": number("1e400", "FP64", "echo_fp64", ("1e400", "FP64")),
    "too large for INT32": number("2147483648", "INT32", "echo_int32", ("2147483648", "INT32")),
    "negative for UINT8": number("-1", "UINT8", "echo_uint8", ("-1", "UINT8")),
    "fraction for INT64": number("1.0", "INT64", "echo_int64", ("1.0", "integer")),
    "two for BOOL": number("2", "BOOL", "echo_bool", ("`2`", "BOOL")),
    "number for BYTES": number("7", "BYTES", "echo_bytes", ("`7", "string")),
    "leading zero": number("01", words=("`01` is no number",)),
    "parameters": Bad(content={"inputs": [X], "parameters": []}, words=("`{`",)),
    "object as parameter": Bad(content={"inputs": [X], "parameters": {"p": {}}}, words=('"p"', "a number or a string")),
    "reserved parameter": Bad(content={"inputs": [X], "parameters": {"triton_x": 1}}, words=("triton_",)),
    "parameter range": Bad(content={"inputs": [X], "parameters": {"p": 2**63}}, words=('"p"', "INT64")),
    "timeout": Bad(content={"inputs": [X], "parameters": {"timeout": -1}}, words=("`-1`", "microseconds")),
    "binary_data_output": Bad(
        content={"inputs": [X], "parameters": {"binary_data_output": 1}}, words=("true or false",)
    ),
    "shared memory": Bad(content=x(parameters={"shared_memory_region": "r"}), words=("shared memory",)),
    "classification": Bad(
        content={"inputs": [X], "outputs": [{"name": "output", "parameters": {"classification": 2}}]},
        words=("classification",),
    ),
}
BINARY = {
    "blob without its header": Bad(
        body=blob(8, bytes(8), words=()).body, words=('"x"', "0 bytes of the body are left")
    ),
    "blob too short": blob(8, bytes(7), words=('"x"', "8", "7")),
    "blob too long": blob(8, bytes(9), words=("1 bytes behind",)),
    "blob for another shape": blob(12, bytes(12), words=('"x"', "12 bytes", "takes 8")),
    "blob without end": blob(2**63, bytes(8), words=("9223372036854775808",)),
    "blob above 2 GiB": blob(2**31 + 4, bytes(8), (1, 2**29 + 1), words=("2147483652",)),
    "shape of 64 bits": blob(0, b"", (2**62, 2**62), words=("64 bits",)),
    "size is text": Bad(content=x(parameters={"binary_data_size": "8"}), words=("integer",)),
    "data and size": Bad(content=x(parameters={"binary_data_size": 8}), words=("both",)),
    "BOOL beyond 1": blob(1, b"\x02", (1, 1), "BOOL", model="echo_bool", words=("BOOL",)),
    "BYTES beyond the end": blob(5, b"\x09\0\0\0a", (1, 1), "BYTES", model="echo_bytes", words=("behind the end",)),
    "BYTES count": blob(5, b"\x01\0\0\0a", (1, 2), "BYTES", model="echo_bytes", words=("1 BYTES elements",)),
    "raw odd": Bad(body=bytes(7), headers={LENGTH_HEADER: "0"}, words=('"x"', "7 bytes", "4")),
    "raw of two": Bad(body=bytes(8), headers={LENGTH_HEADER: "0"}, model="sum", words=("one input", "2")),
}
HEADERS = {
    "length beyond": Bad(content=x(), headers={LENGTH_HEADER: "9999"}, words=("9999",)),
    **{
        f"length {text!r}": Bad(content=x(), headers={LENGTH_HEADER: text}, words=("number of bytes",))
        for text in ("-1", "+5", "0x10", "1e2", "", "5 5", str(2**64))
    },
    **{
        f"samovar-timeout-ms {text!r}": Bad(content=x(), headers={"samovar-timeout-ms": text}, words=("milliseconds",))
        for text in ("0", "-1", "1.5", "5s", "", str(2**64))
    },
    **{
        f"request-timeout {text!r}": Bad(content=x(), headers={"Request-Timeout": text}, words=("seconds",))
        for text in ("0", "-1", "abc", "", "inf", "nan", "1e3", "1.2.3")
    },
    **{
        f"idempotent {text!r}": Bad(content=x(), headers={"samovar-idempotent": text}, words=("`true` or `false`",))
        for text in ("yes", "1", "True", "")
    },
    **{
        f"content type {text!r}": Bad(
            content=x(),
            headers={"Content-Type": text},
            status=415,
            code="unsupported_media_type",
            words=("application/json",),
        )
        for text in ("text/plain", "multipart/form-data", "application/x-pickle", "")
    },
    "compressed": Bad(
        content=x(),
        headers={"Content-Encoding": "br"},
        status=415,
        code="unsupported_media_type",
        words=("br", "gzip, deflate or identity"),
    ),
}
TABLE = {**SIGNATURE, **JSON, **BINARY, **HEADERS}
