"""The FastAPI application of a service: its methods, its page, its mounted applications."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from samovar.service.answers import request_id_of
from samovar.service.declaration import mounts_of, service_declaration_of
from samovar.service.endpoints import endpoints_of
from samovar.service.faults import fault_of
from samovar.service.mounting import MountedApplication
from samovar.service.openapi import document_of
from samovar.service.page import docs_routes
from samovar.service.serving import Forms, Serving
from samovar.service.threads import Threads

__all__ = ["build"]


def build(cls: type, instance: Any, name: str, *, expose_errors: bool, threads: int = 40) -> FastAPI:
    """The application that serves `instance` of the service class `cls` under `name`.

    `expose_errors` says whether clients read the class and message of an exception; at most `threads` methods that are
    no coroutines run at a time. Raises TargetError and ConfigError as `describe` does.
    """
    forms = [Forms(endpoint) for endpoint in endpoints_of(cls, name)]
    pool = Threads(threads)
    mounted = [MountedApplication(m.path, m.application, expose=expose_errors) for m in mounts_of(cls)]
    methods: dict[str, dict[str, ASGIApp]] = {}
    for form in forms:
        method = getattr(instance, form.endpoint.attribute)
        serving = Serving(form, method, name, pool, expose=expose_errors)
        methods.setdefault(form.endpoint.path, {})[form.endpoint.method] = serving
    declaration = service_declaration_of(cls)
    version = declaration.version if declaration else "1"
    document = document_of(name, version, cls.__doc__, forms)
    application = _Application(name, methods, document, mounted)
    application.router.routes.extend(_routes(name, methods, document, mounted))
    return application


class _Application(FastAPI):
    """FastAPI without what it does for methods of its own: ours parse and answer themselves.

    A request for a fixed path goes to its method at once; past FastAPI's middleware that takes 12 us
    instead of 35.
    """

    def __init__(
        self,
        name: str,
        methods: dict[str, dict[str, ASGIApp]],
        document: dict[str, Any],
        mounted: Iterable[MountedApplication],
    ) -> None:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with AsyncExitStack() as running:
                for application in mounted:
                    await running.enter_async_context(application.running())
                yield

        super().__init__(
            title=name,
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            lifespan=lifespan,
            exception_handlers={HTTPException: _answer_error},
        )
        self.openapi_schema = document
        fixed = [(path, verbs) for path, verbs in methods.items() if "{" not in path]
        self._exact = {(verb, path): app for path, verbs in fixed for verb, app in verbs.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = self._exact.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if method is not None:
            await method(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _Methods:
    """The methods of one path."""

    def __init__(self, methods: dict[str, ASGIApp]) -> None:
        self._methods = {**methods, "HEAD": methods["GET"]} if "GET" in methods else methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = self._methods.get(scope["method"])
        if method is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self._methods))})
        await method(scope, receive, send)


def _routes(
    name: str,
    methods: dict[str, dict[str, ASGIApp]],
    document: dict[str, Any],
    mounted: Iterable[MountedApplication],
) -> list[BaseRoute]:
    """Fixed paths stand before those with parameters, mounted applications last, the longest path of them first."""

    async def openapi(_: Request) -> Response:
        return Response(text, media_type="application/json")

    text = to_json(document)
    routes: list[BaseRoute] = [Route(f"/{name}/openapi.json", openapi, methods=["GET"]), *docs_routes(name, name)]
    routes += [Route(path, _Methods(methods[path])) for path in sorted(methods, key=lambda path: "{" in path)]
    for application in sorted(mounted, key=lambda application: -len(application.path)):
        routes += [Route(application.path, _to_slash), Mount(application.path, application)]
    return routes


async def _to_slash(request: Request) -> Response:
    """The root of a mounted application ends with a slash: what its pages refer to is relative to it."""
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{request.scope['path']}/{query}")


async def _answer_error(request: Request, error: Exception) -> Response:
    """What FastAPI itself finds wrong: no such path, or not by this method."""
    assert isinstance(error, HTTPException)
    request_id = request_id_of(request.scope)
    fault = fault_of(error, "", request_id, expose=False)
    texts = {
        404: f"nothing is served at {request.scope['path'][:256]!r}",
        405: f"{request.method} is not allowed here; want {fault.headers.get('Allow', 'another method')}",
    }
    fault = replace(fault, text=texts.get(fault.status, fault.text))
    return Response(fault.body(request_id), fault.status, fault.headers, "application/json")
