"""Services in a worker: what they mount starts at their load and ends at their unload."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samovar.runtimes import Question, runtime_for
from samovar.runtimes.python.importing import import_file
from samovar.worker.questions import Questions

Program = Callable[..., Path]
Answer = tuple[bool, dict[str, Any]]

MOUNTED = """
events = []

async def app(scope, receive, send):
    async def hear():
        events.append((await receive())["type"].removeprefix("lifespan."))

    async def say(what, **more):
        await send({{"type": f"lifespan.{{what}}", **more}})

    {body}

{service}
"""
ALONE = 'samovar.mount("/ui", app)'
INSIDE = """
@samovar.service
class Site:
    samovar.mount("/ui", app)

    def load(self):
        events.append("load")

    def unload(self):
        events.append("unload")
"""
START = 'await hear(); await say("startup.complete")'
END = 'await hear(); await say("shutdown.complete")'
TRACE = r"Traceback (most recent call last):\n  ...\nRuntimeError: no database\n"


class FakeAsk:
    def __init__(self, verb: str, **body: Any) -> None:
        self.verb, self.body = verb, json.dumps(body)
        self.answers: list[Answer] = []

    def tell(self, ok: bool, body: str) -> None:
        self.answers.append((ok, json.loads(body)))


class Mounted:
    """A worker that has loaded the service of one application, whose lifespan runs `body`."""

    def __init__(self, program: Program, body: str, service: str = ALONE) -> None:
        self._path = program(MOUNTED.format(body=body, service=service))
        self._questions = Questions()

    @property
    def events(self) -> list[str]:
        """What the application has heard."""
        found: list[str] = import_file(self._path).events
        return found

    async def load(self) -> Answer:
        (model,) = runtime_for(self._path).inspect(Question(self._path))
        source = {**model["source"], "expose_errors": True}
        options = {**model["options"], "max_memory_bytes": None, "threads": os.cpu_count()}
        return await self._told("load", **{**model, "options": options, "source": source, "instance": 0})

    async def unload(self) -> Answer:
        return await self._told("unload")

    async def _told(self, verb: str, **body: Any) -> Answer:
        """As in a worker, each question has a task of its own."""
        ask = FakeAsk(verb, **body)
        rest = self._questions.answer(ask)
        if rest is not None:
            await asyncio.create_task(rest)
        (answer,) = ask.answers
        return answer


def test_an_application_starts_at_the_load_and_ends_at_the_unload(program: Program) -> None:
    async def live() -> None:
        mounted = Mounted(program, f"{START}; {END}")
        assert await mounted.load() == (True, {})
        assert mounted.events == ["startup"]
        assert await mounted.unload() == (True, {})
        assert mounted.events == ["startup", "shutdown"]

    asyncio.run(live())


def test_an_application_ends_before_the_service_that_it_is_part_of(program: Program) -> None:
    async def live() -> None:
        mounted = Mounted(program, f"{START}; {END}", INSIDE)
        assert await mounted.load() == (True, {})
        assert await mounted.unload() == (True, {})
        assert mounted.events == ["load", "startup", "shutdown", "unload"]

    asyncio.run(live())


def test_a_service_unloads_although_its_application_fails_to_end(program: Program) -> None:
    async def live() -> None:
        mounted = Mounted(program, f'{START}; await hear(); await say("shutdown.failed", message="disk full")', INSIDE)
        assert await mounted.load() == (True, {})
        ok, failure = await mounted.unload()
        assert (ok, failure["message"]) == (False, "the application at /ui failed its shutdown: disk full")
        assert mounted.events[-1] == "unload"

    asyncio.run(live())


@pytest.mark.parametrize(
    "body",
    [
        "return",
        "await hear()",
        START,
        f"{START}; await hear()",
        'assert scope["type"] == "http"',
    ],
    ids=["at once", "at the start", "after the start", "at the end", "with an exception"],
)
def test_an_application_that_just_returns_holds_up_neither(program: Program, body: str) -> None:
    async def live() -> None:
        mounted = Mounted(program, body)
        assert await mounted.load() == (True, {})
        assert await mounted.unload() == (True, {})

    asyncio.run(live())


def test_a_start_that_fails_is_the_answer_to_the_load(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    async def live() -> None:
        mounted = Mounted(program, f'await hear(); await say("startup.failed", message="{TRACE}")')
        ok, failure = await mounted.load()
        assert (ok, failure["message"], failure["next_step"]) == (
            False,
            "the application at /ui failed its startup: RuntimeError: no database",
            "the log has all that it said",
        )
        assert await mounted.unload() == (True, {})
        assert mounted.events == ["startup"]

    asyncio.run(live())
    assert "Traceback (most recent call last):" in capsys.readouterr().err


def test_an_end_that_fails_is_the_answer_to_the_unload(program: Program) -> None:
    async def live() -> None:
        mounted = Mounted(program, f'{START}; await hear(); await say("shutdown.failed", message="disk full")')
        assert await mounted.load() == (True, {})
        ok, failure = await mounted.unload()
        assert (ok, failure["message"]) == (False, "the application at /ui failed its shutdown: disk full")
        assert await mounted.unload() == (True, {})

    asyncio.run(live())
