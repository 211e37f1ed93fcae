"""Bodies of requests as clients other than a JSON library write them."""

import hashlib
import io
import json
from collections.abc import Iterable
from typing import Any

from PIL import Image

from http_door import Answer
from serving import Served

BOUNDARY = b"a-line-that-is-nowhere-else"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY.decode()}"


def picture(width: int = 4, height: int = 3, kind: str = "png") -> bytes:
    """The file of a red image."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, kind)
    return buffer.getvalue()


def form(*fields: tuple[str, bytes], files: Iterable[tuple[str, str, bytes]] = ()) -> bytes:
    """A multipart form: fields by name, files by field and file name."""
    parts = []
    for name, value in fields:
        parts.append(
            b'--%b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (BOUNDARY, name.encode(), value)
        )
    for name, file, value in files:
        head = f'content-disposition: form-data; name="{name}"; filename="{file}"\r\n'.encode()
        kind = b"content-type: application/octet-stream\r\n\r\n"
        parts.append(b"--%b\r\n%b%b%b\r\n" % (BOUNDARY, head, kind, value))
    return b"".join(parts) + b"--%b--\r\n" % BOUNDARY


def post(served: Served, path: str, body: bytes, kind: str, **headers: str) -> Answer:
    """POST a body of this content type."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return served.http.request("POST", path, body, {"content-type": kind, **named})


def digest(data: bytes) -> str:
    """What the services of apps/typed.py and apps/mounted.py tell of what they received."""
    return hashlib.sha256(data).hexdigest()


def error(answer: Answer) -> dict[str, Any]:
    """The error body of an answer; the header names the same request."""
    told: dict[str, Any] = json.loads(answer.body)
    assert {"error", "code", "id"} <= told.keys() <= {"error", "code", "id", "detail"}
    assert told["id"] == answer.headers["x-request-id"]
    return told
