"""WebSockets to the application of apps/sockets.py."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from websockets.sync.client import ClientConnection, connect

from http_door import Wire
from serving import Served
from watching import eventually

UPGRADE = ("Upgrade: websocket", "Connection: Upgrade")
KEY = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


@dataclass(frozen=True)
class Sockets:
    """Those of one test, and what the application noted of them."""

    served: Served
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def open(self, path: str, **options: Any) -> ClientConnection:
        """A WebSocket of a client library."""
        url = f"ws://127.0.0.1:{self.served.port}/sockets/{path}?{self.key}"
        opened: ClientConnection = connect(url, proxy=None, max_size=None, **options)
        return opened

    def ask(self, wire: Wire, path: str, *headers: str) -> None:
        """A handshake on a connection of the test's own."""
        head = [f"GET /sockets/{path}?{self.key} HTTP/1.1", "Host: localhost", *(headers or (*UPGRADE, *KEY)), "", ""]
        wire.send("\r\n".join(head).encode())

    def notes(self) -> list[str]:
        """What is noted."""
        found: list[str] = json.loads(self.served.http.get(f"/sockets/notes?{self.key}").body)
        return found

    def wait(self, line: str) -> None:
        """Wait until the last note begins like this."""
        eventually(lambda: self.notes() and self.notes()[-1].startswith(line), f"the application notes {line!r}")


def masked(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """A short frame of a client; the mask is zero."""
    return bytes([opcode | (0x80 if fin else 0), 0x80 | len(data), 0, 0, 0, 0]) + data
