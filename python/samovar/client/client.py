"""The synchronous client."""

from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlencode

from samovar.client.connection import Connection
from samovar.client.tables import arrays_of
from samovar.client.tensors import decode, encode
from samovar.errors import InputError
from samovar.types import check_name

__all__ = ["Client"]

_TIMEOUT_S = 60.0
_LOAD_TIMEOUT_S = 3600.0  # the engine ends a load by its own, shorter, limit
_WAIT_GRACE_S = 10.0
_LENGTH_HEADER = "Inference-Header-Content-Length"


class Client:
    """Calls one engine: `http://host:port`, or `unix:/path` for a Unix socket.

    Every method raises InputError for what is no name, RequestError where the engine refuses, UnreachableError where
    none listens, and ServerError where the connection breaks or what answers is no engine. Use it in a `with` block, or
    call `close`.
    """

    def __init__(self, url: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.url = url
        self._connection = Connection(url, timeout_s)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def server(self) -> dict[str, Any]:
        """Name, version and extensions of the engine."""
        return dict(self._connection.json("GET", "/v2"))

    def metadata(self, model: str, version: str | None = None) -> dict[str, Any]:
        """Name, versions, platform, inputs and outputs of a model."""
        return dict(self._connection.json("GET", _path(model, version)))

    def check_ready(self, model: str | None = None, version: str | None = None) -> None:
        """Return if a request would succeed now: to the engine, or to `model`. Raises RequestError if not."""
        self._connection.request("GET", f"{_path(model, version)}/ready" if model is not None else "/v2/health/ready")

    def infer(
        self, model: str, inputs: Any, *, version: str | None = None, outputs: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Outputs by name, all of them unless `outputs` names some; inputs and outputs are numpy arrays by name.

        A model of a table takes one as `inputs` too: a data frame of pandas or polars, a table of Arrow, or a list of
        records, which are mappings by column name. The engine is asked for the names first.

        BYTES is an object array of `bytes`, as an input of `str` too; BF16 has the dtype of ml_dtypes. The arrays of an
        answer are read-only. Raises InputError for an array that no datatype of the protocol holds.
        """
        arrays = inputs if isinstance(inputs, Mapping) else arrays_of(inputs, self.metadata(model, version))
        head_length, body = encode(arrays, outputs)
        headers = {"Content-Type": "application/octet-stream", _LENGTH_HEADER: str(head_length)}
        response = self._connection.request("POST", f"{_path(model, version)}/infer", body=body, headers=headers)
        answer = response.content
        return decode(int(response.headers.get(_LENGTH_HEADER, len(answer))), answer)

    def index(self) -> list[dict[str, Any]]:
        """Every version of every model with `name`, `version`, `state`, `reason`."""
        return list(self._connection.json("POST", "/v2/repository/index"))

    def load(self, model: str) -> None:
        """Load or reload a model; returns when its new version serves."""
        self._control(model, "load")

    def unload(self, model: str) -> None:
        """Unload a model; returns when its requests have drained."""
        self._control(model, "unload")

    def state(self) -> dict[str, Any]:
        """The engine and everything about its versions; only the admin socket answers."""
        return dict(self._connection.json("GET", "/admin/state"))

    def events(self, *, after: int = 0, wait_s: float = 0.0, model: str | None = None) -> dict[str, Any]:
        """`events` numbered above `after`, and the `last` number; waits up to `wait_s` for one. Admin socket only."""
        query = {"after": after, "wait_s": wait_s, **({} if model is None else {"model": model})}
        path = f"/admin/events?{urlencode(query)}"
        return dict(self._connection.json("GET", path, timeout_s=wait_s + _WAIT_GRACE_S))

    def _control(self, model: str, verb: str) -> None:
        path = f"/v2/repository/models/{_checked('model', model)}/{verb}"
        self._connection.json("POST", path, timeout_s=_LOAD_TIMEOUT_S)


def _path(model: str, version: str | None) -> str:
    path = f"/v2/models/{_checked('model', model)}"
    return path if version is None else f"{path}/versions/{_checked('version', version)}"


def _checked(kind: str, name: str) -> str:
    """A name that means itself in a path."""
    fault = check_name(kind, name)
    if fault:
        raise InputError(fault)
    return name
