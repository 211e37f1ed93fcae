"""Answers as ASGI messages."""

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samovar.service.faults import Fault, fault_of
from samovar.service.refusals import ClientGone

__all__ = ["answer", "request_id_of", "send_fault", "send_head", "send_whole"]


async def answer(application: ASGIApp, place: str, scope: Scope, receive: Receive, send: Send, *, expose: bool) -> None:
    """Run `application`; what it raises before it answers a request is the answer. Raises what comes later.

    `place` and `expose` are those of `fault_of`.
    """
    started = False

    async def sending(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        await application(scope, receive, sending)
    except ClientGone:
        return
    except Exception as error:
        if started or scope["type"] != "http":  # the server can only break the connection
            raise
        request_id = request_id_of(scope)
        await send_fault(send, fault_of(error, place, request_id, expose=expose), request_id)


async def send_whole(send: Send, status: int, media: str, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
    """The head and the whole body."""
    length = (b"content-length", b"%d" % len(body))
    fields = [(b"content-type", media.encode()), length, *_encoded(headers)]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_head(send: Send, media: str, headers: Iterable[tuple[str, str]] = ()) -> None:
    """The head of a stream."""
    fields = [(b"content-type", media.encode()), *_encoded(headers)]
    await send({"type": "http.response.start", "status": 200, "headers": fields})


async def send_fault(send: Send, fault: Fault, request_id: str) -> None:
    """An error, with a body where its status has one."""
    if fault.status in (204, 304) or fault.status < 200:
        fields = list(_encoded(fault.headers.items()))
        await send({"type": "http.response.start", "status": fault.status, "headers": fields})
        await send({"type": "http.response.body", "body": b""})
        return
    headers = [(name, value) for name, value in fault.headers.items() if name.lower() not in _OURS]
    await send_whole(send, fault.status, "application/json", fault.body(request_id), headers)


def request_id_of(scope: Scope) -> str:
    """The id that the engine gave a request; none without an engine."""
    known = scope.get("extensions", {}).get("samovar")
    return known["id"] if known else ""


_OURS = ("content-type", "content-length")


def _encoded(headers: Iterable[tuple[str, str]]) -> Iterable[tuple[bytes, bytes]]:
    return ((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers)
