"""WebSockets: the bytes of an upgraded connection, and the messages of an ASGI application.

The protocol itself (RFC 6455, with permessage-deflate) is that of the package `websockets`.
"""

import asyncio
from contextlib import suppress
from typing import Any

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from samovar.worker.running import RunningCall

__all__ = ["serve_websocket"]

Message = dict[str, Any]

MAX_MESSAGE_BYTES = 16 << 20
_PING_S = 20.0
_FAREWELL_S = 2.0  # a client may take to answer our close
_PIECE_BYTES = 64 << 10
_GONE = Close(CloseCode.ABNORMAL_CLOSURE, "")
_HEADERS_OF_PROTOCOL = ("upgrade", "connection", "sec-websocket-accept", "sec-websocket-extensions")


async def serve_websocket(application: Any, call: RunningCall, scope: Message) -> None:
    """Run the application on one WebSocket until it has ended."""
    connection = _Connection(call, scope)
    pinging = asyncio.get_running_loop().create_task(connection.ping())
    try:
        await application(connection.scope, connection.receive, connection.send)
    except Exception:
        await connection.fail()
        raise
    finally:
        pinging.cancel()
    await connection.close()


class _Connection:
    def __init__(self, call: RunningCall, scope: Message) -> None:
        self._running = call
        self._call = call.call
        self._protocol = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()], max_size=MAX_MESSAGE_BYTES)
        self._request = _request(scope)
        self._sending = asyncio.Lock()
        self._messages: list[Message] = [{"type": "websocket.connect"}]
        self._fragments: list[bytes] = []
        self._is_text = False
        self._denial: tuple[int, Any] | None = None
        self._is_over = False
        self.scope = {
            **scope,
            "type": "websocket",
            "scheme": "wss" if scope["scheme"] == "https" else "ws",
            "subprotocols": _listed(scope, b"sec-websocket-protocol"),
            "extensions": {**scope["extensions"], "websocket.http.response": {}},
        }
        del self.scope["method"]

    async def receive(self) -> Message:
        """The next message of the client; after its last one, that it has gone."""
        while not self._messages:
            data = self._call.body()
            if data:
                await self._heard(data)
            elif self._call.cancelled or self._call.is_body_over or self._is_over:
                await self._leave()
                self._disconnected(_GONE)
            else:
                await self._running.news()
        return self._messages.pop(0)

    async def send(self, message: Message) -> None:
        """What the application sends."""
        match message["type"]:
            case "websocket.accept":
                await self._accept(message)
            case "websocket.send":
                text = message.get("text")
                self._refuse_late()
                if text is not None:
                    self._protocol.send_text(text.encode())
                else:
                    self._protocol.send_binary(message["bytes"])
                await self._flush()
            case "websocket.close" if self._protocol.state is State.CONNECTING:
                self._respond(403, [], b"")
            case "websocket.close":
                self._refuse_late()
                self._protocol.send_close(message.get("code", 1000), message.get("reason") or "")
                await self._flush()
            case "websocket.http.response.start":
                self._denial = (message["status"], list(message.get("headers", ())))
            case "websocket.http.response.body" if self._denial is not None:
                await self._deny(message)
            case kind:
                raise RuntimeError(f"{kind} is no message of a WebSocket in this state")

    async def ping(self) -> None:
        """Ask a silent client for a sign of life, so that nobody in between takes the connection for dead."""
        while True:
            await asyncio.sleep(_PING_S)
            if self._protocol.state is State.OPEN:
                self._protocol.send_ping(b"")
                await self._flush()

    async def close(self) -> None:
        """The application has returned."""
        if self._is_over:
            return
        if self._protocol.state is State.CONNECTING:
            raise RuntimeError("the application returned before it accepted or refused the WebSocket")
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            await self._flush()
        if not self._protocol.eof_sent:
            await self._hear_out()
        self._respond(None, [], b"")

    async def fail(self) -> None:
        """The application has raised: a client that is connected is told."""
        with suppress(ConnectionError):
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(CloseCode.INTERNAL_ERROR)
                await self._flush()

    async def _leave(self) -> None:
        """Nothing more comes: the client has gone without a word, or is still there and the engine stops."""
        if self._protocol.state is State.OPEN and not self._is_over:
            with suppress(ConnectionError):
                self._protocol.send_close(CloseCode.GOING_AWAY)
                await self._flush()

    async def _hear_out(self) -> None:
        """Wait for the client's close: the end of a socket with unread bytes would cost the client ours."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                while self._protocol.close_rcvd is None and (await self.receive())["type"] == "websocket.receive":
                    pass

    async def _accept(self, message: Message) -> None:
        response: Response = self._protocol.accept(self._request)
        if message.get("subprotocol"):
            response.headers["Sec-WebSocket-Protocol"] = message["subprotocol"]
        self._protocol.send_response(response)
        self._protocol.data_to_send()  # the head goes as one, not as bytes
        self._expect_frames()
        headers = [(name.lower().encode(), value.encode()) for name, value in response.headers.raw_items()]
        if response.status_code != 101:
            self._respond(response.status_code, headers, bytes(response.body or b""))
            self._disconnected(_GONE)
            return
        added = [pair for pair in message.get("headers", ()) if pair[0].decode().lower() not in _HEADERS_OF_PROTOCOL]
        await self._send_piece((101, [*headers, *added]), b"")

    def _expect_frames(self) -> None:
        """Its parser waits for the request, which the engine has read; one that starts now reads frames."""
        self._protocol.parser = self._protocol.parse()
        next(self._protocol.parser)

    async def _deny(self, message: Message) -> None:
        assert self._denial is not None
        body = message.get("body", b"")
        if message.get("more_body", False):
            await self._send_piece(self._denial, body)
            self._denial = (0, [])
            return
        status, headers = self._denial
        self._respond(status or None, headers, body)

    async def _heard(self, data: bytes) -> None:
        had_failed = self._protocol.eof_sent
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and not self._protocol.eof_sent:
                self._take(event)
        if self._protocol.eof_sent and not had_failed and self._protocol.close_sent is not None:
            self._disconnected(self._protocol.close_sent)
        await self._flush()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE and self._protocol.close_rcvd is not None:
            self._disconnected(self._protocol.close_rcvd)
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                whole, self._fragments = b"".join(self._fragments), []
                self._receive(whole)

    def _receive(self, whole: bytes) -> None:
        """A message is there."""
        try:
            content: Message = {"text": whole.decode()} if self._is_text else {"bytes": whole}
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "a text is no UTF-8")
        else:
            self._messages.append({"type": "websocket.receive", **content})

    def _disconnected(self, close: Close) -> None:
        self._messages.append({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})

    def _refuse_late(self) -> None:
        if self._protocol.state is not State.OPEN:
            raise ConnectionError("the WebSocket is closed")

    async def _flush(self) -> None:
        """Send what the protocol has to say, in order; a slow client slows the application."""
        async with self._sending:
            for data in self._protocol.data_to_send():
                for at in range(0, len(data), _PIECE_BYTES):
                    await self._send_piece(None, data[at : at + _PIECE_BYTES])

    async def _send_piece(self, head: tuple[int, Any] | None, data: bytes) -> None:
        while not self._call.respond_part(head, data):
            if self._call.cancelled:
                raise ConnectionError("the client has gone")
            await self._running.news()

    def _respond(self, status: int | None, headers: Any, body: bytes) -> None:
        self._is_over = True
        self._running.respond(None if status is None else (status, headers), body)


def _request(scope: Message) -> Request:
    from websockets.datastructures import Headers

    headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
    return Request(scope["raw_path"].decode("latin-1"), headers)


def _listed(scope: Message, wanted: bytes) -> list[str]:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
    return [item.strip() for value in values for item in value.split(",") if item.strip()]
