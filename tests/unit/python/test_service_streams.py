"""A method that yields: JSON lines or events, an honest status, and an end when the client goes."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float32

import samovar
from samovar.errors import InvalidInputError
from unit.python.service_client import ServiceClient, converse

closed: list[str] = []
note: contextvars.ContextVar[str] = contextvars.ContextVar("note", default="none")


@samovar.service
class Talk:
    @samovar.api
    async def count(self, n: int, fail_at: int = -1) -> AsyncIterator[int]:
        for index in range(n):
            if index == fail_at:
                raise ValueError("stuck")
            yield index

    @samovar.api
    def say(self, words: list[str], fail_at: int = -1) -> Iterator[str]:
        for index, word in enumerate(words):
            if index == fail_at:
                raise InvalidInputError("no such word")
            yield word

    @samovar.api
    def arrays(self) -> Iterator[Float32[np.ndarray, "n"]]:
        yield np.array([1, np.nan], np.float32)
        yield np.zeros(1)  # the wrong dtype

    @samovar.api
    def data(self) -> Iterator[bytes]:
        yield b"\x00\xff"

    @samovar.api
    async def forever(self) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append("forever")

    @samovar.api
    async def fast(self) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            closed.append("fast")

    @samovar.api
    def threaded(self) -> Iterator[str]:
        try:
            while True:
                yield f"{note.get()} {threading.current_thread() is threading.main_thread()}"
        finally:
            closed.append("threaded")


@pytest.fixture(scope="module")
def talk() -> ServiceClient:
    return ServiceClient(Talk)


FAULT = '{"error":"Talk.count raised ValueError: stuck","code":"model_error","id":"r-7"}'


@pytest.mark.parametrize(
    ("name", "sent", "lines", "events"),
    [
        ("count", {"n": 2}, "0\n1\n", "data: 0\n\ndata: 1\n\n"),
        ("count", {"n": 0}, "", ""),
        ("say", {"words": ["a\nb"]}, '"a\\nb"\n', 'data: "a\\nb"\n\n'),
        ("data", {}, '"AP8="\n', 'data: "AP8="\n\n'),
        ("count", {"n": 3, "fail_at": 1}, f"0\n{FAULT}\n", f"data: 0\n\nevent: error\ndata: {FAULT}\n\n"),
    ],
)
def test_lines_or_events_by_accept(talk: ServiceClient, name: str, sent: Any, lines: str, events: str) -> None:
    response = talk.post(f"/talk/{name}", json=sent)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")
    assert response.text == lines
    response = talk.post(f"/talk/{name}", json=sent, headers={"accept": "text/event-stream"})
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
    assert response.text == events
    assert response.headers["cache-control"] == "no-store"


def test_an_error_before_the_first_item_has_its_status(talk: ServiceClient) -> None:
    response = talk.post("/talk/count", json={"n": 1, "fail_at": 0})
    assert (response.status_code, response.json()["code"]) == (500, "model_error")
    response = talk.post("/talk/say", json={"words": ["a"], "fail_at": 0})
    assert (response.status_code, response.json()["error"]) == (400, "no such word")
    assert talk.post("/talk/count", json={"n": "x"}).status_code == 422


def test_an_item_that_does_not_fit_is_the_last_line(talk: ServiceClient) -> None:
    first, last = talk.post("/talk/arrays").text.splitlines()
    assert first == "[1.0,null]"
    assert '"code":"bad_model_output"' in last


@pytest.mark.parametrize("name", ["forever", "fast", "threaded"])
def test_the_generator_is_closed_when_the_client_goes(talk: ServiceClient, name: str) -> None:
    closed.clear()

    async def leave_after_the_first_item() -> list[Any]:
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        seen = []
        async for message in converse(talk.app, f"/talk/{name}", b"{}", receive):
            seen.append(message)
            if message["type"] == "http.response.body":
                gone.set()
        return seen

    seen = asyncio.run(asyncio.wait_for(leave_after_the_first_item(), 10))
    assert closed == [name]
    assert seen[0]["status"] == 200
    assert all(message.get("more_body") for message in seen[1:])  # no end: nobody is there


@pytest.mark.parametrize("name", ["forever", "threaded"])
def test_the_generator_is_closed_when_the_request_is_cancelled(talk: ServiceClient, name: str) -> None:
    closed.clear()

    async def cancel() -> None:
        started, never = asyncio.Event(), asyncio.Event()
        sent = False

        async def receive() -> Any:
            nonlocal sent
            if sent:
                await never.wait()
            sent = True
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                started.set()
                await asyncio.sleep(0)

        scope = {"type": "http", "method": "POST", "path": f"/talk/{name}", "root_path": "", "query_string": b""}
        task = asyncio.create_task(
            talk.app({**scope, "headers": [(b"content-type", b"application/json")]}, receive, send)
        )
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(cancel(), 10))
    assert closed == [name]


def test_a_generator_that_is_no_coroutine_runs_in_threads_with_its_context(talk: ServiceClient) -> None:
    async def first_item() -> str:
        note.set("kept")
        gone = asyncio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        found = ""
        async for message in converse(talk.app, "/talk/threaded", b"{}", receive):
            found = found or message.get("body", b"").decode()
            gone.set()
        return found

    assert asyncio.run(asyncio.wait_for(first_item(), 10)) == '"kept False"\n'
