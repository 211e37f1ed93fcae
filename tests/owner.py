"""What the owner of an engine sees on its admin socket."""

import http.client
import socket
from typing import Any

from http_door import Answer
from serving import Served


class Admin:
    """A client of one engine's admin socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send one request."""
        connection = http.client.HTTPConnection("localhost", timeout=70)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(70)
        try:
            connection.sock.connect(self.path)
            connection.request(method, path, body)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The JSON of an answer of 200."""
        answer = self.request("GET", path)
        assert answer.status == 200, answer.body
        return answer.json()

    def events(self, query: str = "") -> list[dict[str, Any]]:
        """What the history has."""
        found: list[dict[str, Any]] = self.get(f"/admin/events?{query}")["events"]
        return found


def admin(served: Served) -> Admin:
    """A client of the socket that its ready file names."""
    return Admin(served.ready["admin"])
