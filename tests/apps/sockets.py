"""WebSockets of an application of no framework, which does as the path says.

`/sockets/notes?KEY` tells what became of those that were opened with `?KEY`.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import samovar

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MESSAGE = "0123456789abcdef" * 4_096  # 64 KiB
NOTES: defaultdict[str, list[str]] = defaultdict(list)


class Socket:
    """One connection, and what it does."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.notes = NOTES[scope["query_string"].decode()]

    async def accept(self, **more: Any) -> None:
        assert (await self.receive())["type"] == "websocket.connect"
        await self.send({"type": "websocket.accept", **more})
        self.notes.append("accepted")

    async def echo(self, _: str) -> None:
        """Every message goes back; the last note is how it ended."""
        await self.accept()
        while (message := await self.receive())["type"] == "websocket.receive":
            content = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
            await self.send({"type": "websocket.send", **content})
        self.notes.append(f"{message['type']} {message['code']} {message.get('reason', '')}".strip())

    async def choose(self, _: str) -> None:
        """The last protocol that is offered, a header, and what is seen of the request."""
        offered = self.scope["subprotocols"]
        await self.accept(subprotocol=offered[-1] if offered else None, headers=[(b"x-mine", b"yes")])
        told = {key: self.scope[key] for key in ("type", "scheme", "path", "root_path", "subprotocols")}
        told["query"] = self.scope["query_string"].decode()
        told["headers"] = {name.decode(): value.decode() for name, value in self.scope["headers"]}
        await self.send({"type": "websocket.send", "text": json.dumps(told)})

    async def close(self, code: str) -> None:
        await self.accept()
        await self.send({"type": "websocket.close", "code": int(code), "reason": "enough"})

    async def refuse(self, _: str) -> None:
        await self.receive()
        await self.send({"type": "websocket.close"})

    async def deny(self, _: str) -> None:
        """An answer in HTTP instead."""
        await self.receive()
        headers = [(b"content-type", b"text/plain"), (b"x-why", b"full")]
        await self.send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
        await self.send({"type": "websocket.http.response.body", "body": b"come ", "more_body": True})
        await self.send({"type": "websocket.http.response.body", "body": b"later"})

    async def pour(self, count: str) -> None:
        """Messages as fast as the client takes them; each one sent is noted."""
        await self.accept()
        for number in range(int(count)):
            await self.send({"type": "websocket.send", "text": MESSAGE})
            self.notes.append(f"sent {number}")

    async def hang(self, _: str) -> None:
        """Listens to nobody until it is cancelled."""
        await self.accept()
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            self.notes.append("cancelled")
            raise

    async def fail(self, _: str) -> None:
        raise ValueError("of the application")

    async def fail_later(self, _: str) -> None:
        await self.accept()
        raise ValueError("of the application")

    async def nothing(self, _: str) -> None:
        """Ends without a word."""


async def tell(scope: Scope, send: Send) -> None:
    """What is noted, to a request in HTTP."""
    is_known = scope["path"].endswith("/notes")
    await send({"type": "http.response.start", "status": 200 if is_known else 404, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(NOTES[scope["query_string"].decode()]).encode()})


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """`/sockets/WHAT/DETAIL`."""
    if scope["type"] == "http":
        await tell(scope, send)
    elif scope["type"] == "websocket":
        what, _, detail = scope["path"].removeprefix(scope["root_path"] + "/").partition("/")
        await getattr(Socket(scope, receive, send), what)(detail)


samovar.mount("/sockets", application)
