"""Bodies and headers of HTTP that are no inference request, each with the status and code that say so."""

import json
from dataclasses import dataclass, field
from typing import Any

from http_door import LENGTH_HEADER

X: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
GOOD = json.dumps({"inputs": [X]}).encode()


@dataclass(frozen=True, kw_only=True)
class Bad:
    """What is sent, what comes back, and words that its text must have."""

    content: Any = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    model: str = "echo_fp32"
    status: int = 400
    code: str = "invalid_request"
    words: tuple[str, ...]

    def bytes(self) -> bytes:
        """The body."""
        return json.dumps(self.content).encode() if self.body is None else self.body


def x(**changes: Any) -> dict[str, Any]:
    """A request whose one input differs from a good one."""
    return {"inputs": [{**X, **changes}]}


def number(text: str, datatype: str = "FP32", model: str = "echo_fp32", words: tuple[str, ...] = ()) -> Bad:
    """A request with one element."""
    head = json.dumps({"name": "x", "datatype": datatype, "shape": [1, 1]})[:-1]
    return Bad(body=f'{{"inputs":[{head},"data":[{text}]}}]}}'.encode(), model=model, words=words or (text,))


def blob(size: int, data: bytes, shape: tuple[int, ...] = (1, 2), **bad: Any) -> Bad:
    """A binary input of `size` announced bytes, followed by `data`."""
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return Bad(body=head + data, headers={LENGTH_HEADER: str(len(head))}, **bad)


JSON = {
    "empty body": Bad(body=b"", words=("empty", "want the JSON")),
    "no JSON": Bad(body=b"hello", words=("hello", "byte 0")),
    "a list": Bad(body=b"[]", words=("`{`",)),
    "cut off": Bad(body=GOOD[:30], words=("the end",)),
    "trailing": Bad(body=GOOD + b"x", words=("`x`", "end of the document")),
    "byte order mark": Bad(body=b"\xef\xbb\xbf" + GOOD, words=("byte 0",)),
    "no UTF-8": Bad(body=b'{"id":"\xff","inputs":[]}', words=("UTF-8",)),
    "overlong UTF-8": Bad(body=b'{"id":"\xc0\xaf","inputs":[]}', words=("UTF-8",)),
    "surrogate in UTF-8": Bad(body=b'{"id":"\xed\xa0\x80","inputs":[]}', words=("UTF-8",)),
    "first half of a surrogate": Bad(body=b'{"id":"\\ud800","inputs":[]}', words=("second half of a surrogate",)),
    "second half of a surrogate": Bad(body=b'{"id":"\\udc00","inputs":[]}', words=("surrogate",)),
    "two first halves": Bad(body=b'{"id":"\\ud800\\ud800","inputs":[]}', words=("surrogate",)),
    "half an escape": Bad(body=b'{"id":"\\u12","inputs":[]}', words=("hexadecimal",)),
    "unknown escape": Bad(body=b'{"id":"\\x41","inputs":[]}', words=("escape",)),
    "control character": Bad(body=b'{"id":"a\nb","inputs":[]}', words=("JSON", "control")),
    "zero byte": Bad(body=b'{"id":"a\0b","inputs":[]}', words=("JSON", "control")),
    "single quotes": Bad(body=b"{'inputs':[]}", words=("string",)),
    "comment": Bad(body=b'{/**/"inputs":[]}', words=("string",)),
    "trailing comma": Bad(body=b'{"inputs":[],}', words=("string",)),
    "missing comma": Bad(body=b'{"id":"a" "inputs":[]}', words=("`,`",)),
    "deep arrays": Bad(body=GOOD.replace(b"[1, 2]}", b"[" * 65 + b"]" * 65 + b"}"), words=("64",)),
    "deep arrays that nobody reads": Bad(body=b'{"u":' + b"[" * 100_000, words=("64 levels",)),
    "deep objects": Bad(body=b'{"a":' * 100_000, words=("64 levels",)),
    "inputs missing": Bad(content={}, words=("`inputs`",)),
    "inputs twice": Bad(body=b'{"inputs":[],"inputs":[]}', words=("`inputs`", "twice")),
    "shape twice": Bad(body=GOOD.replace(b'"shape"', b'"shape":[1],"shape"'), words=("`shape`", "twice")),
    "inputs no list": Bad(content={"inputs": {}}, words=("`[`",)),
    "id": Bad(content={"id": 3, "inputs": [X]}, words=("`3", "string")),
    "no name": Bad(content={"inputs": [{"datatype": "FP32", "shape": [1], "data": [1]}]}, words=("`name`",)),
    "no datatype": Bad(content={"inputs": [{"name": "x", "shape": [1], "data": [1]}]}, words=("`datatype`", '"x"')),
    "no shape": Bad(content={"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}, words=("`shape`", '"x"')),
    "no data": Bad(content={"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}, words=("`data`",)),
    "no array": Bad(content=x(data=1), words=("array",)),
    "broken axis": Bad(content=x(shape=[1.0, 2]), words=("`1.0`", "integer")),
    "axis overflows": Bad(content=x(shape=[2**64, 1]), words=("18446744073709551616",)),
    "text for number": Bad(content=x(data=["a", 2]), words=('"x"', "no number")),
    "null for number": Bad(content=x(data=[None, 2]), words=("`null`", "no number")),
    "NaN": number("NaN"),
    "infinity": number("-Infinity"),
    "too large for FP32": number("1e39", words=("1e39", "FP32")),
    "too large for FP64": number("1e400", "FP64", "echo_fp64", ("1e400", "FP64")),
    "negative for UINT8": number("-1", "UINT8", "echo_uint8", ("-1", "UINT8")),
    "fraction for INT8": number("1.0", "INT8", "echo_int8", ("1.0", "integer")),
    "two for BOOL": number("2", "BOOL", "echo_bool", ("`2`", "BOOL")),
    "number for BYTES": number("7", "BYTES", "echo_bytes", ("`7", "string")),
    "leading zero": number("01", words=("`01` is no number",)),
    "plus": number("+1", words=("`+1",)),
    "hexadecimal": number("0x10", words=("`x10",)),
    "a number of 100,000 digits": number("1" * 100_000, words=("1111", "FP32")),
    "parameters": Bad(content={"inputs": [X], "parameters": []}, words=("`{`",)),
    "object as parameter": Bad(content={"inputs": [X], "parameters": {"p": {}}}, words=('"p"', "a number or a string")),
    "parameter range": Bad(content={"inputs": [X], "parameters": {"p": 2**63}}, words=('"p"', "INT64")),
    "parameter twice": Bad(body=GOOD[:-1] + b',"parameters":{"p":1,"p":2}}', words=('"p"', "twice")),
    "binary_data_output": Bad(
        content={"inputs": [X], "parameters": {"binary_data_output": 1}},
        words=('"binary_data_output"', "true or false"),
    ),
}
BINARY = {
    "blob without its header": Bad(
        body=blob(8, bytes(8), words=()).body, words=('"x"', "0 bytes of the body are left")
    ),
    "blob too short": blob(8, bytes(7), words=('"x"', "8", "7")),
    "blob too long": blob(8, bytes(9), words=("1 bytes behind",)),
    "blob without end": blob(2**63, bytes(8), words=("9223372036854775808",)),
    "blob above 2 GiB": blob(2**31 + 4, bytes(8), (1, 2**29 + 1), words=("2147483652",)),
    "negative size": Bad(content=x(parameters={"binary_data_size": -1}), words=('"binary_data_size"', "-1")),
    "size is text": Bad(content=x(parameters={"binary_data_size": "8"}), words=('"binary_data_size"', "integer")),
    "data and size": Bad(content=x(parameters={"binary_data_size": 8}), words=("both",)),
    "raw odd": Bad(body=bytes(7), headers={LENGTH_HEADER: "0"}, words=('"x"', "7 bytes", "4")),
    "raw of two": Bad(body=bytes(8), headers={LENGTH_HEADER: "0"}, model="sum", words=("one input", "2")),
}
HEADERS = {
    "length beyond": Bad(content=x(), headers={LENGTH_HEADER: "9999"}, words=("9999",)),
    **{
        f"length {text!r}": Bad(content=x(), headers={LENGTH_HEADER: text}, words=("number of bytes",))
        for text in ("-1", "+5", "0x10", "1e2", "", "5 5", "5,5", "99999999999999999999", str(2**64))
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
        for text in ("text/plain", "multipart/form-data", "application/x-pickle", "application/x-npy", "")
    },
    **{
        f"encoding {text!r}": Bad(
            content=x(),
            headers={"Content-Encoding": text},
            status=415,
            code="unsupported_media_type",
            words=("content-encoding", "gzip"),
        )
        for text in ("br", "zstd", "gzip, gzip", "compress", "gzip;q=1")
    },
}
TABLE = {**JSON, **BINARY, **HEADERS}
