"""Clients whose every request has an id and a checksum, sent when it is due, whatever the answers do."""

import asyncio
import itertools
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from benchmarks.peers.base import Peer
from benchmarks.peers.checked_plain import FAIR
from benchmarks.work import CHECKED, Answer, Work

Kind = Literal["ok", "refused", "late", "error", "lost", "wrong", "unreachable", "gone"]
Departure = Literal["fin", "rst", "half"]
REFUSALS, DEADLINES = frozenset({429, 503}), frozenset({408, 504})
PATIENCE_S = 10.0
"""Without a full answer for so long a request is lost, unless it was sent with a deadline of its own."""
WARM_UP_S = 1.0
NEVER_LINGER = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing sends RST
_ids = itertools.count(1000)  # 1 is the request that waits for the start


@dataclass(slots=True)
class Ask:
    """A request, and what became of it. Moments are of time.monotonic."""

    seconds: float = 0.0
    """How long the model sleeps."""
    deed: int = FAIR
    deadline_s: float | None = None
    """Told to the engine, where it takes one from a request."""
    patience_s: float = PATIENCE_S
    leave_after_s: float | None = None
    departure: Departure = "fin"
    id: int = field(default_factory=lambda: next(_ids))
    due: float = field(default_factory=time.monotonic)
    sent: float = 0.0
    ended: float = 0.0
    left: float = 0.0
    """When its client went."""
    kind: Kind = "unreachable"
    status: int = 0
    retry_after: bool = False
    body: bytes = b""
    """Of what is no answer of a model."""
    pid: int = 0
    mark: int = 0

    @property
    def numbers(self) -> tuple[int, ...]:
        """What is summed: differs from those of the neighbours in time."""
        return tuple(self.id * step % 1009 for step in (1, 3, 5, 7, 11))

    @property
    def took_s(self) -> float:
        """From when it was due."""
        return self.ended - self.due

    def judge(self, answer: Answer, read: Callable[[Answer], np.ndarray]) -> None:
        """The class of a full answer."""
        self.retry_after = "retry-after" in answer.headers
        if self.status != 200:
            self.body = answer.body[:500]
            self.kind = "refused" if self.status in REFUSALS else "late" if self.status in DEADLINES else "error"
            return
        try:
            whose, total, pid, mark = (int(number) for number in np.ravel(read(answer)))
        except (ValueError, KeyError, TypeError, IndexError):
            self.kind = "wrong"
            return
        self.pid, self.mark = pid, mark
        self.kind = "ok" if (whose, total) == (self.id, sum(self.numbers)) else "wrong"


class Connection(asyncio.Protocol):
    """HTTP/1.1, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.is_open = False
        self.has_ended = asyncio.Event()
        self._data = bytearray()
        self._answer: asyncio.Future[tuple[int, Answer] | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.is_open = transport, True

    def data_received(self, data: bytes) -> None:
        self._data += data
        found = parse(self._data)
        if found and self._answer and not self._answer.done():
            status, answer, used, keeps = found
            del self._data[:used]
            if not keeps:
                self.close()
            self._answer.set_result((status, answer))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.is_open = False
        self.has_ended.set()
        if self._answer and not self._answer.done():
            self._answer.set_result(None)

    def send(self, request: bytes) -> "asyncio.Future[tuple[int, Answer] | None]":
        """The status and answer that will come; None if the connection ends before."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def close(self) -> None:
        """At once, by FIN."""
        self.is_open = False
        self.transport.close()

    def leave(self, departure: Departure) -> None:
        """As a client goes who does not wait for the answer."""
        if departure == "half":
            self.transport.write_eof()
            return
        if departure == "rst":
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NEVER_LINGER)
        self.transport.abort()
        self.is_open = False


def parse(data: bytearray) -> tuple[int, Answer, int, bool] | None:
    """Status, answer, bytes used and whether the connection goes on; None while bytes lack."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(data[:end]).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status, start = int(first.split(" ", 2)[1]), end + 4
    keeps = headers.get("connection", "").lower() != "close"
    if headers.get("transfer-encoding", "").lower() != "chunked":
        whole = start + int(headers.get("content-length", 0))
        return (status, Answer(bytes(data[start:whole]), headers), whole, keeps) if len(data) >= whole else None
    body = bytearray()
    while (line := data.find(b"\r\n", start)) >= 0:
        size = int(data[start:line].split(b";")[0], 16)
        start = line + 4 + size
        if len(data) < start:
            return None
        body += data[line + 2 : line + 2 + size]
        if not size:
            return status, Answer(bytes(body), headers), start, keeps
    return None


class Client:
    """Connections to one engine, opened as they are needed and kept."""

    def __init__(self, peer: Peer, port: int, work: Work = CHECKED) -> None:
        self._peer, self._port, self._work = peer, port, work
        self._idle: list[Connection] = []
        self._opened: list[Connection] = []

    async def send(self, ask: Ask) -> Ask:
        """One request from its connection to its class."""
        request = self._request(ask)
        try:
            connection = await self._connect(ask.patience_s)
        except (OSError, TimeoutError):
            ask.ended = time.monotonic()
            return ask
        ask.sent, ask.kind = time.monotonic(), "lost"
        coming = connection.send(request)
        if ask.leave_after_s is not None:
            return await self._leave(ask, connection, coming)
        with suppress(TimeoutError):
            found = await asyncio.wait_for(coming, ask.patience_s)
            if found:
                ask.ended = time.monotonic()
                ask.status, answer = found
                ask.judge(answer, lambda answer: np.asarray(self._peer.answer(self._work, "json", answer)))
        if ask.kind == "lost":
            ask.ended = time.monotonic()
            connection.close()
        self._keep(connection)
        return ask

    async def load(
        self,
        rate: float,
        seconds: float,
        ask: Callable[[], Ask],
        into: list[Ask],
        is_over: asyncio.Event | None = None,
    ) -> None:
        """Requests at a steady rate for so long, or until it is over; ends when each has its class."""
        async with asyncio.TaskGroup() as group:
            began = time.monotonic()
            for number in itertools.takewhile(lambda number: number < rate * seconds, itertools.count()):
                if is_over and is_over.is_set():
                    break
                due = began + number / rate
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                one = ask()
                one.due = due
                into.append(one)
                group.create_task(self.send(one))

    async def saturate(self, clients: int, seconds: float, ask: Callable[[], Ask]) -> float:
        """Right answers per second of so many clients in a closed loop, after a second of warm-up."""
        began = time.monotonic() + WARM_UP_S
        until, count = began + seconds, 0

        async def repeat() -> None:
            nonlocal count
            while time.monotonic() < until:
                one = await self.send(ask())
                count += one.kind == "ok" and began < one.ended < until

        await asyncio.gather(*(repeat() for _ in range(clients)))
        return count / seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Every connection has ended: what the engine holds afterwards is its own."""
        for connection in self._opened:
            connection.transport.abort()
        for connection in self._opened:
            await connection.has_ended.wait()

    async def _connect(self, patience_s: float) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        opening = loop.create_connection(Connection, "127.0.0.1", self._port)
        _, connection = await asyncio.wait_for(opening, patience_s)
        self._opened.append(connection)
        return connection

    def _keep(self, connection: Connection) -> None:
        if connection.is_open:
            self._idle.append(connection)

    async def _leave(
        self, ask: Ask, connection: Connection, coming: "asyncio.Future[tuple[int, Answer] | None]"
    ) -> Ask:
        assert ask.leave_after_s is not None
        await asyncio.wait([coming], timeout=ask.leave_after_s)
        if coming.done() and (found := coming.result()):
            ask.status, answer = found
            ask.judge(answer, lambda answer: np.asarray(self._peer.answer(self._work, "json", answer)))
            self._keep(connection)
        elif not coming.done():
            ask.kind, ask.left = "gone", time.monotonic()
            connection.leave(ask.departure)
            if ask.departure == "half":  # what comes is not waited for; the engine's end of it is
                await asyncio.wait([coming], timeout=1.0)
            connection.close()
        ask.ended = time.monotonic()
        return ask

    def _request(self, ask: Ask) -> bytes:
        inputs = np.array([[ask.id, ask.seconds, ask.deed, *ask.numbers]], np.float64)
        request = self._peer.request(self._work, "json", inputs)
        headers: Mapping[str, str] = request.headers
        if ask.deadline_s is not None:
            headers = {**headers, "samovar-timeout-ms": f"{ask.deadline_s * 1000:.0f}"}
        lines = [f"POST {request.path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(request.body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + request.body
