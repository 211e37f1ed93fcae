"""Clients that go away without their answer, each way that there is."""

import json
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import h2.errors
import h2.events
import numpy as np

from grpc_door import SERVICE, raw_request
from h2_wire import GRPC, H2Wire, frame
from http_door import json_tensor
from serving import Served

WAYS = ("FIN", "RST", "half close", "RST_STREAM", "GOAWAY", "HTTP/2 RST", "cancel")
"""Three ends of a connection of HTTP/1.1, three ways to leave HTTP/2, and a call that grpcio's user gives up."""


@dataclass
class Leaving:
    """A request, sent in parts or as a whole, and how its client leaves."""

    served: Served
    way: str
    model: str
    inputs: Mapping[str, np.ndarray]
    wire: Any = field(default=None)
    _stream: int = 0
    _call: Any = None

    @classmethod
    @contextmanager
    def open(cls, served: Served, way: str, model: str, inputs: Mapping[str, np.ndarray]) -> Iterator[Self]:
        """A connection without a request yet."""
        leaving = cls(served, way, model, inputs)
        if way == "cancel":
            with served.grpc.connect() as leaving.wire:
                yield leaving
        elif way in ("FIN", "RST", "half close"):
            with socket.create_connection(("127.0.0.1", served.port), 20) as leaving.wire:
                yield leaving
        else:
            with H2Wire(served.port) as leaving.wire:
                yield leaving

    def send(self, share: float = 1.0) -> None:
        """The request, or the first share of its bytes; grpcio knows no parts."""
        request = raw_request(self.model, self.inputs).SerializeToString()
        if self.way == "cancel":
            self._call = self.wire.unary_unary(f"/{SERVICE}/ModelInfer").future(request, timeout=60)
        elif isinstance(self.wire, H2Wire):
            self._stream = self.wire.open("POST", f"/{SERVICE}/ModelInfer", GRPC)
            body = frame(request)
            self.wire.h2.send_data(self._stream, body[: int(len(body) * share)], end_stream=share == 1.0)
            self.wire.flush()
        else:
            whole = self._http()
            self.wire.sendall(whole[: max(int(len(whole) * share), 1)])

    def read(self) -> None:
        """The first bytes of the answer; more than the windows of HTTP/2 hold does not come."""
        if isinstance(self.wire, H2Wire):
            self.wire.wait(h2.events.DataReceived)
        else:
            assert self.wire.recv(1_000)

    def leave(self) -> None:
        """Go away. The socket of a half close stays open."""
        match self.way:
            case "FIN":
                self.wire.close()
            case "RST":
                reset(self.wire)
            case "half close":
                self.wire.shutdown(socket.SHUT_WR)
            case "RST_STREAM":
                self.wire.h2.reset_stream(self._stream, h2.errors.ErrorCodes.CANCEL)
                self.wire.flush()
            case "GOAWAY":
                self.wire.h2.close_connection()
                self.wire.flush()
                self.wire.socket.close()
            case "HTTP/2 RST":
                reset(self.wire.socket)
            case "cancel":
                self._call.cancel()

    def _http(self) -> bytes:
        tensors = [json_tensor(name, array) for name, array in self.inputs.items()]
        body = json.dumps({"inputs": tensors}).encode()
        head = f"POST /v2/models/{self.model}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


def reset(connected: socket.socket) -> None:
    """Close with a reset instead of an end."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.close()
