"""A connection of HTTP/2 on which a test decides over every frame."""

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GRPC = {"content-type": "application/grpc", "te": "trailers"}


class H2Wire:
    """A client that checks nothing of what it sends; `events` has all that came."""

    def __init__(self, port: int, *, start: bool = True, window: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        unchecked = h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(unchecked)
        self.events: list[Any] = []
        self.received = b""
        self.has_ended = False
        self.has_started = start
        """Does h2 take part, or are bytes all there is?"""
        if start:
            if window is not None:
                values = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
                self.h2.local_settings = h2.settings.Settings(client=True, initial_values=values)
            self.h2.initiate_connection()
            self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def flush(self) -> None:
        """Send what h2 has to say."""
        self.socket.sendall(self.h2.data_to_send())

    def open(self, method: str, path: str, headers: Mapping[str, str] | None = None, *, end: bool = False) -> int:
        """Begin a request; its stream."""
        stream = self.h2.get_next_available_stream_id()
        head = {":method": method, ":scheme": "http", ":authority": "localhost", ":path": path, **(headers or {})}
        self.h2.send_headers(stream, list(head.items()), end_stream=end)
        self.flush()
        return stream

    def call(self, method: str, message: bytes, **headers: str) -> int:
        """A gRPC call with its message in a frame; its stream."""
        return self.call_framed(method, frame(message), **headers)

    def call_framed(self, method: str, body: bytes, **headers: str) -> int:
        """A gRPC call with a body in any bytes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        stream = self.open("POST", f"/{method}", {**GRPC, **named})
        self.h2.send_data(stream, body, end_stream=True)
        self.flush()
        return stream

    def receive(self) -> Sequence[Any]:
        """The events of the next bytes; marks the end of the connection."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.has_ended = True
        self.received += data
        if not data or not self.has_started:
            return []
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError:  # after a GOAWAY it takes no frames, whatever the protocol says
            self.has_started = False
            return []
        self.events += events
        self.acknowledge()
        return events

    def acknowledge(self) -> None:
        """Answer settings and pings, if the other side still listens."""
        try:
            self.flush()
        except OSError:
            self.has_ended = True

    def wait(self, kind: type[Any], stream: int | None = None) -> Any:
        """The first event of this kind, of this stream; fails when the connection ends before."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    return event
            assert not self.has_ended, f"the connection ended before {kind.__name__}: {self.events}"
            self.receive()

    def answer(self, stream: int) -> tuple[dict[str, str], bytes]:
        """Headers and trailers of a whole answer, and its body; windows are opened as data comes."""
        while True:
            mine = [event for event in self.events if getattr(event, "stream_id", None) == stream]
            if any(isinstance(event, h2.events.StreamEnded) for event in mine):
                break
            assert not self.has_ended, f"the connection ended before the answer: {self.events}"
            for event in self.receive():
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.acknowledge()
        heads = (h2.events.ResponseReceived, h2.events.TrailersReceived)
        pairs = [pair for event in mine if isinstance(event, heads) for pair in event.headers]
        body = b"".join(event.data for event in mine if isinstance(event, h2.events.DataReceived))
        return {text(name): text(value) for name, value in pairs}, body

    def farewell(self) -> int | None:
        """Read to the end of the connection; the error code of the first GOAWAY."""
        self.ended()
        return next((int.from_bytes(payload[4:8]) for kind, _, _, payload in self._frames() if kind == 7), None)

    def frames(self) -> Iterator[tuple[int, int, int]]:
        """Kind, flags and stream of every frame that came."""
        return ((kind, flags, stream) for kind, flags, stream, _ in self._frames())

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        rest = self.received
        while len(rest) >= 9:
            end = 9 + int.from_bytes(rest[:3])
            yield rest[3], rest[4], int.from_bytes(rest[5:9]), rest[9:end]
            rest = rest[end:]

    def ended(self) -> bool:
        """Read to the end of the connection."""
        while not self.has_ended:
            self.receive()
        return True


def frame(message: bytes) -> bytes:
    """gRPC's frame around a message."""
    return struct.pack(">BI", 0, len(message)) + message


def text(value: str | bytes) -> str:
    """h2 gives either."""
    return value.decode() if isinstance(value, bytes) else value
