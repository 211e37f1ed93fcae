"""Services whose requests wait until the test says so: until the file `<note>.go` is there."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
from jaxtyping import Int64
from starlette.background import BackgroundTask
from starlette.responses import Response

import samovar

PAUSE_S = 0.005


def begin(name: str, note: str) -> None:
    """Note in one write who runs what."""
    file = os.open(note, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{name} {os.getpid()}\n".encode())
    os.close(file)


def may_go(note: str) -> bool:
    return Path(f"{note}.go").exists()


async def held(name: str, note: str) -> int:
    """The process that ran it to its end."""
    begin(name, note)
    while not may_go(note):  # noqa: ASYNC110 - the test's event
        await asyncio.sleep(PAUSE_S)
    return os.getpid()


def held_sync(name: str, note: str) -> int:
    """The same; the thread waits."""
    begin(name, note)
    while not may_go(note):
        time.sleep(PAUSE_S)
    return os.getpid()


async def afterwards(note: str) -> None:
    """What is done in the background."""
    try:
        await held("afterwards", note)
        begin("done", note)
    except asyncio.CancelledError:
        begin("cancelled", note)
        raise


async def application(scope: dict[str, Any], receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Any method, with the note in the query."""
    if scope["type"] == "http":
        pid = await held("mounted", parse_qs(scope["query_string"].decode())["note"][0])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(pid).encode()})


def poll(note: str, context: samovar.Context) -> None:
    """Run until nobody waits."""
    begin("poll", note)
    while not context.cancelled:
        time.sleep(PAUSE_S)
    begin("seen", note)


@samovar.model
class Polling:
    """The same as a model."""

    def predict(self, note: samovar.Bytes[np.ndarray, "1"], context: samovar.Context) -> Int64[np.ndarray, "1"]:
        poll(note[0].decode(), context)
        return np.zeros(1, np.int64)


@samovar.service
class Held:
    """Methods that may run twice, and such that may not."""

    polling = samovar.use(Polling)

    @samovar.api(method="GET")
    async def get(self, note: str) -> int:
        return await held("get", note)

    @samovar.api
    async def post(self, note: str) -> int:
        return await held("post", note)

    @samovar.api(idempotent=True)
    async def again(self, note: str) -> int:
        return await held("again", note)

    @samovar.api(method="GET")
    def get_sync(self, note: str) -> int:
        return held_sync("get_sync", note)

    @samovar.api(path="/held/upload/{note}", method="PUT", idempotent=True)
    async def upload(self, note: str, data: bytes) -> int:
        return await held(f"upload of {len(data)}", note.replace("~", "/"))

    @samovar.api
    def poll(self, note: str, context: samovar.Context) -> None:
        poll(note, context)

    @samovar.api
    async def watch(self, note: str, context: samovar.Context) -> None:
        """Somebody else than the method is told."""

        async def see() -> None:
            await context.wait_cancelled()
            begin("seen", note)

        self.seeing = asyncio.create_task(see())
        begin("watch", note)
        await asyncio.sleep(3_600)

    @samovar.api
    async def through(self, note: str) -> None:
        await self.polling.predict([note.encode()])

    @samovar.api
    async def afterwards(self, note: str) -> Response:
        """Answers, and then waits."""
        return Response("answered", background=BackgroundTask(afterwards, note))

    @samovar.api
    async def blocking(self, note: str) -> int:
        """A mistake: nothing else runs meanwhile."""
        return held_sync("blocking", note)

    @samovar.api(method="GET")
    async def pid(self) -> int:
        return os.getpid()

    samovar.mount("/held-app", application)


@samovar.service(concurrency=1)
class Single:
    """One request at a time."""

    @samovar.api
    async def post(self, note: str) -> int:
        return await held("post", note)
