"""Applications of users below a path of a service: HTTP, WebSockets, start and end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.websockets import WebSocket

import samovar
from samovar.errors import LoadError
from samovar.service.application import build
from unit.python.service_client import ServiceClient

events: list[str] = []


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
    events.append("up")
    yield {"made": "once"}
    events.append("down")


ui = FastAPI(lifespan=lifespan)


@ui.get("/")
def index(request: Request) -> dict[str, Any]:
    return {"root_path": request.scope["root_path"], "path": request.scope["path"]}


@ui.get("/state")
def state(request: Request) -> str:
    return str(request.state.made)


@ui.get("/broken")
def broken() -> None:
    raise ValueError("too small")


@ui.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text((await websocket.receive_text()).upper())
    await websocket.close()


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Knows no lifespan, and raises before it answers."""
    assert scope["type"] == "http"
    raise ValueError("bare")


@samovar.service
class Plates:
    samovar.mount("/ui", ui)
    samovar.mount("/ui/deep", bare)

    @samovar.api(path="/ui/own")
    def own(self) -> str:
        return "own"


@pytest.fixture(scope="module")
def plates() -> ServiceClient:
    return ServiceClient(Plates)


def test_an_application_sees_its_own_root(plates: ServiceClient) -> None:
    assert plates.get("/ui/").json() == {"root_path": "/ui", "path": "/ui/"}
    response = plates.get("/ui?a=1")
    assert (response.status_code, response.headers["location"]) == (307, "/ui/?a=1")
    assert plates.get("/ui/nothing").json() == {"detail": "Not Found"}  # its own words


def test_methods_of_the_service_come_first_and_longer_paths_before_shorter(plates: ServiceClient) -> None:
    assert plates.post("/ui/own").json() == "own"
    response = plates.get("/ui/deep/x")
    assert (response.status_code, response.json()) == (
        500,
        {"error": "the application at /ui/deep raised ValueError: bare", "code": "model_error", "id": "r-7"},
    )


def test_what_an_application_answers_itself_stays(plates: ServiceClient) -> None:
    response = plates.get("/ui/broken")
    assert (response.status_code, response.text) == (500, "Internal Server Error")


def test_start_state_and_end() -> None:
    events.clear()

    async def live() -> str:
        app = build(Plates, Plates(), "plates", expose_errors=True)
        said: asyncio.Queue[Any] = asyncio.Queue()
        heard: asyncio.Queue[Any] = asyncio.Queue()
        task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, said.get, heard.put))
        said.put_nowait({"type": "lifespan.startup"})
        assert await heard.get() == {"type": "lifespan.startup.complete"}
        assert events == ["up"]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
            found = (await client.get("/ui/state")).json()
        said.put_nowait({"type": "lifespan.shutdown"})
        assert await heard.get() == {"type": "lifespan.shutdown.complete"}
        await task
        return str(found)

    assert asyncio.run(live()) == "once"
    assert events == ["up", "down"]


def test_websockets(plates: ServiceClient) -> None:
    sent: list[Any] = []
    messages = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/ui/ws", "root_path": "", "query_string": b"", "headers": []}
    asyncio.run(plates.app(scope, receive, send))
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[1]["text"] == "HELLO"


def test_a_failed_start_is_said() -> None:
    @asynccontextmanager
    async def failing(_: FastAPI) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    @samovar.service
    class S:
        samovar.mount("/db", FastAPI(lifespan=failing))

    async def start() -> None:
        app = build(S, S(), "s", expose_errors=True)
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(LoadError) as caught:
        asyncio.run(start())
    assert (
        str(caught.value)
        == "the application at /db failed its startup: RuntimeError: no database; the log has all that it said"
    )
