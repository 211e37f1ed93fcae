"""One method over HTTP: read what the request has, call, answer."""

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from samovar.context import Context
from samovar.service.answers import answer, request_id_of, send_whole
from samovar.service.bodies import FORMS, query_fields, raw_types, read_form, read_raw, whole_body
from samovar.service.endpoints import Endpoint
from samovar.service.faults import fault_of
from samovar.service.inputs import Inputs
from samovar.service.methods import arguments
from samovar.service.paths import parameters_of
from samovar.service.refusals import Refusal
from samovar.service.results import Items, Results
from samovar.service.streams import Stream
from samovar.service.threads import Threads

__all__ = ["Forms", "Serving"]


class Forms:
    """What a method takes and gives over HTTP: everything that its annotations decide."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        names = parameters_of(endpoint.path)
        rest = [parameter for parameter in endpoint.inputs if parameter.name not in names]
        in_path = [parameter for parameter in endpoint.inputs if parameter.name in names]
        title = "".join(word.capitalize() for word in endpoint.name.split("_"))
        self.path = Inputs(endpoint.place, "path", f"{title}Path", in_path)
        self.rest = Inputs(endpoint.place, "body" if endpoint.has_body else "query", title, rest)
        self.raw = raw_types(rest[0].annotation) if endpoint.has_body and len(rest) == 1 else ()
        place = f"the return value of {endpoint.place}"
        self.results = Items(place, endpoint.result) if endpoint.streams else Results(place, endpoint.result)

    @property
    def content_types(self) -> tuple[str, ...]:
        """Those that a body may have."""
        return ("application/json", *FORMS, *self.raw)


class Serving:
    """One method of one object as an ASGI application."""

    def __init__(
        self, forms: Forms, method: Callable[..., Any], service: str, threads: Threads, *, expose: bool
    ) -> None:
        self._forms = forms
        self._endpoint = forms.endpoint
        self._method = method
        self._service = service
        self._threads = threads
        self._expose = expose
        self._wants_context = any(parameter.is_context for parameter in forms.endpoint.parameters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await answer(self._answer, self._endpoint.place, scope, receive, send, expose=self._expose)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        lengths: dict[str, int] = {}
        values: Mapping[str, Any] = {}
        if self._forms.path.parameters:
            values = self._forms.path.of_fields(list(scope["path_params"].items()), lengths)
        if not self._endpoint.has_body:
            values = {**values, **self._forms.rest.of_fields(query_fields(scope), lengths)}
            await self._run(values, scope, receive, send)
            return
        headers = Headers(scope=scope)
        media = headers.get("content-type", "").partition(";")[0].strip().lower()
        if media == "application/json" or media.endswith("+json"):
            body = await whole_body(receive)
            found = await self._read(self._forms.rest.of_json, body, lengths)
            await self._run({**values, **found}, scope, receive, send)
        elif media in FORMS:
            async with read_form(headers, scope, receive, self._forms.rest) as fields:
                found = await self._read(self._forms.rest.of_fields, fields, lengths)
                await self._run({**values, **found}, scope, receive, send)
        elif self._takes_raw(media):
            (parameter,) = self._forms.rest.parameters
            async with read_raw(headers, receive, parameter.annotation) as body:
                found = await self._read(self._forms.rest.of_values, {parameter.name: body}, lengths)
                await self._run({**values, **found}, scope, receive, send)
        elif media or await whole_body(receive):
            taken = ", ".join(self._forms.content_types)
            shown = f"content type {media[:128]!r}" if media else "a body without a content type"
            raise Refusal("unsupported_media_type", f"{shown} is not taken here; send one of {taken}")
        else:
            await self._run({**values, **self._forms.rest.of_values({}, lengths)}, scope, receive, send)

    def _takes_raw(self, media: str) -> bool:
        return media in self._forms.raw or f"{media.partition('/')[0]}/*" in self._forms.raw

    async def _read(self, read: Callable[..., dict[str, Any]], sent: Any, lengths: dict[str, int]) -> dict[str, Any]:
        """The checked inputs; images are decoded off the event loop."""
        if self._forms.rest.is_heavy:
            found: dict[str, Any] = await self._threads.run(read, sent, lengths)
            return found
        return read(sent, lengths)

    async def _run(self, values: Mapping[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
        context = self._context(scope) if self._wants_context else None
        positional, named = arguments(self._endpoint, values, context)
        if self._endpoint.streams:
            await self._stream(self._method(*positional, **named), scope, receive, send)
            return
        if self._endpoint.is_async:
            result = await self._method(*positional, **named)
        else:
            result = await self._threads.run(self._method, *positional, **named)
            if hasattr(result, "__await__"):
                result = await result
        results = self._forms.results
        if results.is_json:
            await send_whole(send, 200, "application/json", results.json(result))
            return
        accept = Headers(scope=scope).get("accept", "")
        if results.is_heavy(result):
            whole = await self._threads.run(results.whole, result, accept)
        else:
            whole = results.whole(result, accept)
        if isinstance(whole, Response):
            await whole(scope, receive, send)
        else:
            await send_whole(send, 200, *whole)

    async def _stream(self, generator: Any, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, items = request_id_of(scope), self._forms.results
        assert isinstance(items, Items)
        stream = Stream(
            items,
            lambda error: fault_of(error, self._endpoint.place, request_id, expose=self._expose),
            request_id,
            Headers(scope=scope).get("accept", ""),
        )
        opened = aclosing(generator) if self._endpoint.is_async else self._threads.iterate(generator)
        await stream.send(opened, receive, send)

    def _context(self, scope: Scope) -> Context:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        known = scope.get("extensions", {}).get("samovar")
        if known is None:
            return Context(headers=headers, name=self._service)
        return Context.of_call(known["call"], headers, name=self._service)
