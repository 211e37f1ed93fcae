"""Real engines for tests, started and stopped in a `with` block."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from samovar.errors import RequestError
from samovar.server import Server
from samovar.types import Datatype

__all__ = ["infer", "serve"]

_TIMEOUT_S = 60.0


@contextmanager
def serve(*targets: str | Path | type, **options: Any) -> Iterator[Server]:
    """A `samovar.Server` on a free port, quiet unless `quiet=False` says otherwise.

    with samovar.testing.serve(Stn) as server:
        straight = samovar.testing.infer(server, "stn", plates=plates)["output"]
    """
    with Server(*targets, **{"http_port": 0, "quiet": True, **options}) as server:
        yield server


def infer(server: Server, model: str, /, **inputs: Any) -> dict[str, Any]:
    """Call a model over HTTP, or a Unix socket, with JSON; inputs and outputs are arrays by name. Raises RequestError.

    FP16 and BF16 do not travel in JSON.
    """
    import numpy as np

    tensors = [_encode(name, np.asarray(value)) for name, value in inputs.items()]
    answer = _post(server.url, f"/v2/models/{model}/infer", {"inputs": tensors})
    return {output["name"]: _decode(output) for output in answer["outputs"]}


def _encode(name: str, array: Any) -> dict[str, Any]:
    datatype = Datatype.BYTES if array.dtype.kind in "OSU" else Datatype.of_numpy(array.dtype.name)
    if datatype is None:
        raise TypeError(f'input "{name}" has dtype {array.dtype}, which no datatype of the protocol holds')
    data = [value.decode() if isinstance(value, bytes) else value for value in array.ravel().tolist()]
    return {"name": name, "datatype": datatype.name, "shape": list(array.shape), "data": data}


def _decode(output: dict[str, Any]) -> Any:
    import numpy as np

    datatype = Datatype[output["datatype"]]
    data = [value.encode() for value in output["data"]] if datatype is Datatype.BYTES else output["data"]
    if datatype in (Datatype.FP32, Datatype.FP64):
        data = [np.nan if value is None else value for value in data]  # NaN and infinities travel as null
    array = np.empty(len(data), datatype.numpy_name)
    array[:] = data
    return array.reshape(output["shape"])


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


def _connection(url: str) -> http.client.HTTPConnection:
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:"))
    address = urlsplit(url)
    return http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)


def _post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection = _connection(url)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise RequestError(answer["error"], response.status, answer["code"])
    return answer
