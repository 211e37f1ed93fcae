"""Applications of users below a path: their start and end, their state, their faults."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samovar.errors import LoadError
from samovar.service.answers import answer

__all__ = ["MountedApplication"]


class MountedApplication:
    """One ASGI application; what it raises before it answers is answered like a method's exception."""

    def __init__(self, path: str, application: ASGIApp, *, expose: bool) -> None:
        self.path = path
        self._application = application
        self._state: dict[str, Any] = {}
        self._expose = expose

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or WebSocket."""
        scope["state"] = dict(self._state)
        place = f"the application at {self.path}"
        await answer(self._application, place, scope, receive, send, expose=self._expose)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start it, and at the end of the block stop it, where it cares (ASGI's lifespan). Raises LoadError."""
        lifespan = _Lifespan(self.path, self._state)
        task = asyncio.create_task(lifespan.run(self._application))
        await lifespan.say("startup")
        try:
            yield
        finally:
            await lifespan.say("shutdown")
            await task


class _Lifespan:
    """The conversation of ASGI's lifespan: a message there, one back. An application that ends it has no interest."""

    def __init__(self, path: str, state: dict[str, Any]) -> None:
        self._path = path
        self._state = state
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._heard: asyncio.Queue[Message | None] = asyncio.Queue()
        self._is_over = False

    async def run(self, application: ASGIApp) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await application(scope, self._said.get, self._heard.put)
        except Exception:  # noqa: BLE001, S110 - by the specification: it does not know lifespan
            pass
        finally:
            self._is_over = True
            await self._heard.put(None)

    async def say(self, what: str) -> None:
        if self._is_over:
            return
        await self._said.put({"type": f"lifespan.{what}"})
        heard = await self._heard.get()
        if heard is not None and heard["type"] == f"lifespan.{what}.failed":
            message = heard.get("message", "").strip()  # Starlette sends a traceback
            sys.stderr.write(f"{message}\n")
            reason = message.rpartition("\n")[2]
            raise LoadError(
                f"the application at {self._path} failed its {what}: {reason}", "the log has all that it said"
            )
