"""Answers as ASGI messages."""

from collections.abc import Iterable

from starlette.types import Send

__all__ = ["send_fault", "send_head", "send_whole"]

from samovar.service.faults import Fault


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


_OURS = ("content-type", "content-length")


def _encoded(headers: Iterable[tuple[str, str]]) -> Iterable[tuple[bytes, bytes]]:
    return ((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers)
