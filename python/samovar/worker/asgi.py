"""Between the frames of an HTTP request and an ASGI application."""

from typing import Any
from urllib.parse import unquote

from samovar.worker.channel import Headers
from samovar.worker.running import RunningCall

__all__ = ["Application", "serve_http"]

Application = Any
Message = dict[str, Any]
_Http = tuple[str, str, str, Headers, str, str, str, bool]

# Larger pieces of a streamed body are cut, so that a slow client holds little memory of the engine.
PIECE_BYTES = 64 << 10
# So does a longer body that comes at once.
WHOLE_BYTES = 32 << 20


async def serve_http(application: Application, call: RunningCall, http: _Http) -> None:
    """Run the application on one request, or one WebSocket, until it has ended."""
    scope = _scope(call, http)
    if http[7] and _is_websocket(scope):
        from samovar.worker.websockets import serve_websocket

        await serve_websocket(application, call, scope)
        return
    exchange = _Exchange(call)
    await application(scope, exchange.receive, exchange.send)
    exchange.close()


def _scope(call: RunningCall, http: _Http) -> Message:
    method, path, query, headers, version, scheme, client, _ = http
    host, _, port = client.rpartition(":")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": version,
        "method": method,
        "scheme": scheme,
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": headers,
        "client": (host.strip("[]"), int(port)) if port else None,
        "server": None,
        "state": {},
        "extensions": {"samovar": {"id": call.request_ids()[0], "call": call}},
    }


def _is_websocket(scope: Message) -> bool:
    return any(name == b"upgrade" and value.lower() == b"websocket" for name, value in scope["headers"])


class _Exchange:
    """One request: what the application receives, and what it sends."""

    def __init__(self, call: RunningCall) -> None:
        self._running = call
        self._call = call.call
        self._is_read = False
        self._is_over = False
        self._head: tuple[int, Headers] | None = None
        self._has_head = False

    async def receive(self) -> Message:
        """The next piece of the body; after it, that the client has gone."""
        while not self._is_read:
            body = self._call.body()
            is_over = self._call.is_body_over
            if body is not None or is_over:
                self._is_read = is_over
                return {"type": "http.request", "body": body or b"", "more_body": not is_over}
            if self._call.cancelled:
                break
            await self._running.news()
        while not (self._is_over or self._call.cancelled):
            await self._running.news()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """The head, then the body: one END where it comes at once, pieces otherwise."""
        kind = message["type"]
        if kind == "http.response.start":
            if self._has_head:
                raise RuntimeError("http.response.start was sent twice")
            self._has_head = True
            self._head = (message["status"], list(message.get("headers", ())))
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} is no message of an HTTP response")

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        if not self._has_head:
            raise RuntimeError("http.response.body was sent before http.response.start")
        if self._is_over:
            raise RuntimeError("http.response.body was sent after the end of the response")
        if more or len(body) > WHOLE_BYTES:
            view = memoryview(body)
            for at in range(0, len(view), PIECE_BYTES):
                await self._send_piece(bytes(view[at : at + PIECE_BYTES]))
            if self._head is not None:  # an empty piece sends the head
                await self._send_piece(b"")
            body = b""
        if not more:
            head, self._head = self._head, None
            self._is_over = True
            self._running.respond(head, bytes(body))

    async def _send_piece(self, piece: bytes) -> None:
        """Send once there is credit: a slow client slows the application."""
        while not self._call.respond_part(self._head, piece):
            if self._call.cancelled:
                raise ConnectionError("the client has gone")
            await self._running.news()
        self._head = None

    def close(self) -> None:
        """The application has returned."""
        if not self._is_over:
            raise RuntimeError("the application returned before its response was whole")
