"""ASGI applications of no framework, mounted: one answers as its path says, the other is told of its start and end."""

import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import samovar

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PIECE = b"0123456789abcdef" * 4_096  # 64 KiB


async def pieces(receive: Receive) -> AsyncIterator[bytes]:
    """The body of the request as it comes."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client has gone")
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def start(send: Send, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def body(send: Send, data: bytes, *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def echo(receive: Receive, send: Send) -> None:
    """Each piece goes back before the next is read; an empty one sends the head (ASGI)."""
    await start(send)
    await body(send, b"", more=True)
    async for piece in pieces(receive):
        await body(send, piece, more=True)
    await body(send, b"")


async def digest(receive: Receive, send: Send) -> None:
    count, whole = 0, hashlib.sha256()
    async for piece in pieces(receive):
        count += len(piece)
        whole.update(piece)
    await start(send)
    await body(send, json.dumps([count, whole.hexdigest()]).encode())


async def seen(scope: Scope, send: Send) -> None:
    """What the application sees of a request."""
    kept = ("http_version", "method", "scheme", "path", "root_path", "type")
    table = {key: scope[key] for key in kept}
    table["raw_path"], table["query_string"] = scope["raw_path"].decode(), scope["query_string"].decode()
    table["client"] = scope["client"]
    table["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    await start(send, 200, (b"content-type", b"application/json"))
    await body(send, json.dumps(table).encode())


async def sized(send: Send, count: int) -> None:
    """So many pieces, whose length the head announces."""
    await start(send, 200, (b"content-length", b"%d" % (count * len(PIECE))))
    for left in range(count, 0, -1):
        await body(send, PIECE, more=left > 1)


async def unsized(send: Send, count: int) -> None:
    await start(send)
    for _ in range(count):
        await body(send, PIECE, more=True)
    await body(send, b"")


async def misfit(send: Send, announced: bytes, *data: bytes) -> None:
    """A head that announces another length than that of the body."""
    await start(send, 200, (b"content-length", announced))
    for piece in data[:-1]:
        await body(send, piece, more=True)
    await body(send, data[-1])


HEADERS: dict[str, list[tuple[bytes, bytes]]] = {
    "value": [(b"x-mine", b"a\r\nset-cookie: stolen=1")],
    "name": [(b"x-mine: a\r\nset-cookie", b"stolen=1")],
    "space": [(b"x mine", b"a")],
    "zero": [(b"x-mine", b"a\0b")],
    "lengths": [(b"content-length", b"2"), (b"content-length", b"3")],
    "words": [(b"content-length", b"two")],
    "many": [(b"x-%d" % number, b"a") for number in range(300)],
    "hop": [(b"connection", b"close"), (b"keep-alive", b"timeout=1"), (b"transfer-encoding", b"chunked")],
    "cookies": [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"X-Mixed-Case", b"\xe9")],
}


async def twice(send: Send) -> None:
    """Two heads."""
    await start(send)
    await start(send)


async def nothing() -> None:
    """No answer."""


async def half(send: Send) -> None:
    """No end."""
    await start(send)
    await body(send, b"half", more=True)


async def fail() -> None:
    raise ValueError("before the answer")


async def fail_later(send: Send) -> None:
    await half(send)
    raise ValueError("in the middle of the answer")


async def fail_after(send: Send) -> None:
    await empty(send, 200)
    raise ValueError("after the answer")


async def send_after(send: Send) -> None:
    await empty(send, 200)
    await body(send, b"more")


async def with_headers(send: Send, kind: str) -> None:
    await start(send, 200, *HEADERS[kind])
    await body(send, b"ok")


async def empty(send: Send, status: int) -> None:
    await start(send, status)
    await body(send, b"")


async def other(send: Send) -> None:
    await start(send, 404)
    await body(send, b"mine")


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """`/raw/WHAT/DETAIL`."""
    if scope["type"] != "http":
        raise RuntimeError("it speaks nothing but HTTP")
    what, _, detail = scope["path"].removeprefix(scope["root_path"] + "/").partition("/")
    answers: dict[str, Callable[[], Awaitable[None]]] = {
        "echo": lambda: echo(receive, send),
        "digest": lambda: digest(receive, send),
        "seen": lambda: seen(scope, send),
        "status": lambda: empty(send, int(detail)),
        "sized": lambda: sized(send, int(detail)),
        "unsized": lambda: unsized(send, int(detail)),
        "short": lambda: misfit(send, b"5", b"four"),
        "short-later": lambda: misfit(send, b"9", b"four", b"four"),
        "long": lambda: misfit(send, b"3", b"four"),
        "long-later": lambda: misfit(send, b"7", b"four", b"four"),
        "headers": lambda: with_headers(send, detail),
        "twice": lambda: twice(send),
        "nothing": nothing,
        "half": lambda: half(send),
        "raise": fail,
        "raise-later": lambda: fail_later(send),
        "raise-after": lambda: fail_after(send),
        "send-after": lambda: send_after(send),
    }
    await answers.get(what, lambda: other(send))()


class Living:
    """Told of its start and end, which it notes in the file LIVING_FILE; what its start made, requests find."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(scope, receive, send)
        else:
            await start(send)
            await body(send, scope["state"]["made"].encode())

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        for event in ("startup", "shutdown"):
            await receive()
            if "LIVING_FILE" in os.environ:
                with open(os.environ["LIVING_FILE"], "a") as file:  # noqa: ASYNC230, PTH123 - one line
                    file.write(f"{event}\n")
            scope["state"]["made"] = "at the start"
            await send({"type": f"lifespan.{event}.complete"})


samovar.mount("/raw", application)
samovar.mount("/living/inside", Living())
