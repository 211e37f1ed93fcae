"""HTTP to one engine, over TCP or a Unix socket; its errors become those of this package."""

import ipaddress
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from samovar.errors import InputError, RequestError, ServerError, UnreachableError

__all__ = ["Connection"]

_CONNECT_TIMEOUT_S = 5.0


class Connection:
    """`url` is `http://host:port` or `unix:/path`; opened with the first request."""

    def __init__(self, url: str, timeout_s: float | None) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._http = _client(url)

    def close(self) -> None:
        """Close the sockets."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """An answer with status 200; `timeout_s` is for what may take longer than the others.

        Raises RequestError for any other answer of an engine, UnreachableError where nothing listens, ServerError for
        a connection that breaks and an answer that no engine gives.
        """
        timeout = httpx.Timeout(timeout_s or self._timeout_s, connect=_CONNECT_TIMEOUT_S)
        with self._faults():
            response = self._http.request(method, path, content=body, headers=headers, timeout=timeout)
        if response.status_code != httpx.codes.OK:
            raise self._refusal(response)
        return response

    def json(self, method: str, path: str, body: object = None, *, timeout_s: float | None = None) -> Any:
        """The JSON of an answer, None where it has no body."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        content = b"" if body is None else json.dumps(body).encode()
        response = self.request(method, path, body=content, headers=headers, timeout_s=timeout_s)
        try:
            return response.json() if response.content else None
        except ValueError:
            raise self._stranger(response) from None

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise UnreachableError(
                f"no engine answers at {self._url} ({error})", "start one with `samovar serve`, or check the address"
            ) from error
        except httpx.TimeoutException as error:
            raise ServerError(f"{self._url} gave no answer within {self._timeout_s} s") from error
        except httpx.TransportError as error:
            raise ServerError(f"the connection to {self._url} broke: {error}") from error

    def _refusal(self, response: httpx.Response) -> ServerError | RequestError:
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and not response.content:
            return RequestError(f"the engine at {self._url} is not ready", response.status_code, "not_ready")
        try:
            answer = response.json()
            return RequestError(answer["error"], response.status_code, answer["code"])
        except (KeyError, TypeError, ValueError):
            return self._stranger(response)

    def _stranger(self, response: httpx.Response) -> ServerError:
        return ServerError(
            f"what answers at {self._url} is no Samovar engine (HTTP {response.status_code} for {response.url.path})",
            "check host and port",
        )


def _client(url: str) -> httpx.Client:
    if url.startswith("unix:"):
        transport = httpx.HTTPTransport(uds=url.removeprefix("unix:"))
        return httpx.Client(transport=transport, base_url="http://localhost", trust_env=False)
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in ("http", "https") or not address.host:
        raise InputError(f'"{url[:256]}" is no address of an engine', "write http://host:port or unix:/path")
    # A proxy of the environment is for the world outside: it would look for the engine on its own machine.
    return httpx.Client(base_url=address, trust_env=not _is_loopback(address.host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
