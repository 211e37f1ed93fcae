"""The Open Inference Protocol over HTTP with nothing but the standard library and numpy."""

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self

import ml_dtypes
import numpy as np

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "BYTES": np.dtype(object),
}
LENGTH_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The JSON body, or the JSON head of a body with binary tensors."""
        length = self.headers.get(LENGTH_HEADER.lower())
        return json.loads(self.body[: int(length)] if length is not None else self.body)

    def arrays(self) -> dict[str, np.ndarray]:
        """The outputs by name, JSON or binary; fails on anything but 200."""
        assert self.status == 200, f"{self.status} {self.body[:500]!r}"
        head = self.json()
        offset = int(self.headers.get(LENGTH_HEADER.lower(), len(self.body)))
        found = {}
        for output in head["outputs"]:
            dtype, shape = DATATYPES[output["datatype"]], output["shape"]
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                flat = [text.encode() for text in output["data"]] if dtype.kind == "O" else output["data"]
                found[output["name"]] = np.array(flat, dtype).reshape(shape)
            else:
                found[output["name"]] = from_bytes(self.body[offset : offset + size], dtype).reshape(shape)
                offset += size
        assert offset == len(self.body), "bytes behind the last output"
        return found

    def code(self) -> str:
        """The slug of an error body."""
        return str(self.json()["code"])


class Http:
    """A client of one engine; every request has a connection of its own unless one is given."""

    def __init__(self, port: int, timeout_s: float = 30.0, host: str = "127.0.0.1") -> None:
        self.port = port
        self.timeout_s = timeout_s
        self.host = host

    def connect(self) -> HTTPConnection:
        """A connection to pass to `request`, for keep-alive; the caller closes it."""
        return HTTPConnection(self.host, self.port, timeout=self.timeout_s)

    def wire(self) -> "Wire":
        """A connection for bytes that no client library would send."""
        return Wire(socket.create_connection((self.host, self.port), self.timeout_s))

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connection: HTTPConnection | None = None,
    ) -> Answer:
        """One request, one answer."""
        used = connection or self.connect()
        try:
            used.request(method, path, body=body, headers=dict(headers or {}))
            response = used.getresponse()
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, lowered, response.read())
        finally:
            if connection is None:
                used.close()

    def get(self, path: str) -> Answer:
        """GET."""
        return self.request("GET", path)

    def post(self, path: str, content: object, **headers: str) -> Answer:
        """POST of JSON; `samovar_timeout_ms="5"` becomes the header `samovar-timeout-ms`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, json.dumps(content).encode(), {"Content-Type": "application/json", **named})

    def infer(self, model: str, inputs: Mapping[str, np.ndarray], **headers: str) -> Answer:
        """An inference request in JSON."""
        content = {"inputs": [json_tensor(name, array) for name, array in inputs.items()]}
        return self.post(f"/v2/models/{model}/infer", content, **headers)

    def infer_binary(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] = (),
        *,
        binary_output: bool = True,
        **headers: str,
    ) -> Answer:
        """An inference request with binary tensors, and binary tensors back unless told otherwise."""
        head: dict[str, Any] = {"inputs": [], "parameters": {"binary_data_output": binary_output}}
        if outputs:
            head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
        blobs = []
        for name, array in inputs.items():
            blobs.append(to_bytes(array))
            parameters = {"binary_data_size": len(blobs[-1])}
            tensor = {"name": name, "datatype": datatype(array), "shape": array.shape, "parameters": parameters}
            head["inputs"].append(tensor)
        encoded = json.dumps(head).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"/v2/models/{model}/infer"
        return self.request("POST", path, b"".join([encoded, *blobs]), {LENGTH_HEADER: str(len(encoded)), **named})


class Wire:
    """A connection on which a test writes every byte itself."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._reader = connected.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(b"".join(parts))

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next answer; one of HEAD has no body whatever its headers say. Fails at the end of the stream."""
        status, headers = self.head()
        if head_only or status == 100:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join(iter(self.chunk, b"")))
        return Answer(status, headers, self.read(int(headers.get("content-length", "0"))))

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer, whose body is still to be read."""
        first = self._reader.readline()
        assert first.startswith(b"HTTP/1."), f"no answer but {first!r}"
        headers = {}
        while line := self._reader.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return int(first.split()[1]), headers

    def read(self, count: int) -> bytes:
        """So many bytes of a body, or those before the end of the stream."""
        return self._reader.read(count)

    def chunk(self) -> bytes:
        """The next chunk of a body, b"" at its end. Raises EOFError where the body breaks off."""
        size = self._reader.readline()
        data = self._reader.read(int(size, 16)) if size else b""
        if not size or self._reader.readline() != b"\r\n":
            raise EOFError(f"the body broke off after {data[-100:]!r}")
        return data

    def ended(self) -> bool:
        """Wait for the next byte or the end; whether it is the end."""
        try:
            return self._reader.read(1) == b""
        except ConnectionResetError:
            return True


def datatype(array: np.ndarray) -> str:
    """The protocol's name of an array's dtype."""
    return next(name for name, dtype in DATATYPES.items() if dtype == array.dtype)


def json_tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    """An input with its data as flat JSON."""
    data = array.ravel().tolist()
    if array.dtype == object:
        data = [item.decode() for item in data]
    return {"name": name, "datatype": datatype(array), "shape": array.shape, "data": data}


def to_bytes(array: np.ndarray) -> bytes:
    """The binary extension: little-endian rows; BYTES elements each behind a 4-byte length."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel())
    return np.ascontiguousarray(array).tobytes()


def from_bytes(blob: bytes, dtype: np.dtype[Any]) -> np.ndarray:
    """The inverse of `to_bytes`, flat."""
    if dtype.kind != "O":
        return np.frombuffer(blob, dtype)
    items, offset = [], 0
    while offset < len(blob):
        (length,) = struct.unpack_from("<I", blob, offset)
        items.append(blob[offset + 4 : offset + 4 + length])
        offset += 4 + length
    flat = np.empty(len(items), object)
    flat[:] = items
    return flat
