"""Requests to a service's application without an engine, sockets or processes."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
from PIL import Image

from samovar.service.application import build
from samovar.service.declaration import service_declaration_of

CALL_ID = "r-7"


class FakeCall:
    """What a worker knows of a running call."""

    deadline = 12.5
    cancelled = False

    def on_cancel(self, callback: Callable[[], None]) -> None: ...

    def request_ids(self) -> list[str]:
        return [CALL_ID]

    def requests(self) -> list[tuple[str, int, dict[str, Any], str]]:
        return [(CALL_ID, 1, {"tone": "low"}, "00-trace")]


class ServiceClient:
    """Asks an object of a service class; each request has an event loop of its own."""

    def __init__(self, cls: type, *, expose_errors: bool = True) -> None:
        declaration = service_declaration_of(cls)
        assert declaration is not None
        self.app = build(cls, cls(), declaration.name, expose_errors=expose_errors)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._with_call, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(ask())

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("POST", path, **arguments)

    async def _with_call(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app({**scope, "extensions": {"samovar": {"id": CALL_ID, "call": FakeCall()}}}, receive, send)


def picture(size: tuple[int, int] = (4, 3), kind: str = "png", mode: str = "RGB", **options: Any) -> bytes:
    """The file of an image, red where it has colours."""
    buffer = io.BytesIO()
    Image.new(mode, size, "red" if mode == "RGB" else None).save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    """The image in a file."""
    return Image.open(io.BytesIO(data))


async def converse(app: Any, path: str, body: bytes, receive: Callable[[], Awaitable[Any]]) -> AsyncIterator[Any]:
    """The messages of an answer while `receive` decides when the client goes."""
    messages: asyncio.Queue[Any] = asyncio.Queue()
    sent = False

    async def receiving() -> Any:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    task = asyncio.create_task(app(scope, receiving, messages.put))
    task.add_done_callback(lambda _: messages.put_nowait(None))
    while (message := await messages.get()) is not None:
        yield message
    await task
