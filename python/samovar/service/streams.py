"""What a method yields, as JSON lines or, where Accept asks for them, as server-sent events."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.types import Receive, Send

from samovar.service.acceptance import preferred
from samovar.service.answers import send_head
from samovar.service.faults import Fault
from samovar.service.results import Items

__all__ = ["EVENTS", "LINES", "Stream"]

EVENTS, LINES = "text/event-stream", "application/x-ndjson"
_END = object()
# Proxies must neither keep events for later nor give one client's to another.
_HEADERS = {LINES: (), EVENTS: (("cache-control", "no-store"), ("x-accel-buffering", "no"))}


@dataclass(frozen=True)
class Stream:
    """One answer, item by item, as long as the client is there.

    `explain` turns an exception of the generator, or of an item that does not fit, into what the client reads of it.
    """

    items: Items
    explain: Callable[[Exception], Fault]
    request_id: str
    accept: str

    async def send(
        self, opened: AbstractAsyncContextManager[AsyncGenerator[Any, None]], receive: Receive, send: Send
    ) -> None:
        """Send what the generator yields.

        The first item is made before the head is sent: what it raises is the caller's to answer, with a status. A later
        fault is the last line. The generator is closed when the client goes.
        """
        async with opened as generator:
            with anyio.CancelScope() as scope:
                watch = asyncio.create_task(_watch(receive, scope))
                try:
                    await self._send(generator, send)
                finally:
                    watch.cancel()

    async def _send(self, generator: AsyncGenerator[Any, None], send: Send) -> None:
        media = preferred(self.accept, (LINES, EVENTS))
        first = await anext(generator, _END)
        body = b"" if first is _END else self._line(first, media)
        await send_head(send, media, _HEADERS[media])
        if first is not _END:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await self._send_rest(generator, media, send)
        await send({"type": "http.response.body", "body": b""})

    async def _send_rest(self, generator: AsyncGenerator[Any, None], media: str, send: Send) -> None:
        try:
            async for item in generator:
                await send({"type": "http.response.body", "body": self._line(item, media), "more_body": True})
        except Exception as error:  # noqa: BLE001 - user code: the client is told, in the last line
            text = self.explain(error).body(self.request_id)
            line = b"event: error\ndata: %b\n\n" % text if media == EVENTS else text + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})

    def _line(self, item: Any, media: str) -> bytes:
        text = self.items.json(item)
        return b"data: %b\n\n" % text if media == EVENTS else text + b"\n"


async def _watch(receive: Receive, scope: anyio.CancelScope) -> None:
    """End everything when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
