"""The lifespan of an ASGI application: told of its start and of its end, where it listens."""

from typing import Any

from samovar.errors import LoadError

__all__ = ["Lifespan"]


class Lifespan:
    """Start and end of one application (the protocol `lifespan` of ASGI); one that does not know it goes without."""

    def __init__(self, application: Any) -> None:
        import asyncio

        self._application = application
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when the application has started. Raises LoadError where it says that it cannot."""
        import asyncio

        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._tell("startup")

    async def stop(self) -> None:
        """Return when the application has ended. Raises LoadError where it says that it cannot."""
        if self._task is not None and not self._task.done():
            await self._tell("shutdown")
            await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._application(scope, self._received.get, self._answers.put)
        except Exception as error:  # noqa: BLE001 - by the protocol, whoever raises here knows no lifespan
            await self._answers.put({"type": "lifespan.unknown", "error": error})

    async def _tell(self, event: str) -> None:
        await self._received.put({"type": f"lifespan.{event}"})
        answer = await self._answers.get()
        if answer["type"] == f"lifespan.{event}.failed":
            raise LoadError(f"the application failed at its {event}: {answer.get('message', '')}")
