"""Bodies of requests by their content type: JSON, the forms of browsers, and the one input itself."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl

from fastapi import UploadFile
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, Headers
from starlette.datastructures import UploadFile as StarletteUploadFile
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from samovar.codecs.annotations import one_array, tensor
from samovar.service.arrays import ArrayValue
from samovar.service.inputs import Inputs
from samovar.service.kinds import bare, is_file, is_image, members
from samovar.service.refusals import ClientGone, Refusal

__all__ = [
    "FORMS",
    "JSON",
    "MULTIPART",
    "URLENCODED",
    "query_fields",
    "raw_types",
    "read_form",
    "read_raw",
    "whole_body",
]

JSON = "application/json"
MULTIPART, URLENCODED = FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
Field = tuple[str, Any]
_MOST_FIELDS = 1_000
_MOST_FIELD_BYTES = 128 << 20  # the engine limits the whole body
_SPOOLED_BYTES = 1 << 20  # a longer file goes to the disk, as Starlette's do


async def whole_body(receive: Receive) -> bytes:
    """All bytes of a request. Raises ClientGone."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False):
        return body
    parts = [body]
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
    if message["type"] != "http.request":
        raise ClientGone
    return b"".join(parts)


def query_fields(scope: Scope) -> list[tuple[str, str]]:
    """The names and texts of a query string. Raises Refusal."""
    text = scope["query_string"].decode("latin-1")
    if not text:
        return []
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Refusal("invalid_request", f"the query has more than {_MOST_FIELDS} fields") from None


@asynccontextmanager
async def read_form(headers: Headers, scope: Scope, receive: Receive, inputs: Inputs) -> AsyncIterator[list[Field]]:
    """The fields of a form; its files are open inside the block, and bytes where the annotation wants no file.

    Raises Refusal and ClientGone.
    """
    form = await _parsed(headers, Request(scope, receive).stream())
    is_multipart = headers["content-type"].lower().startswith(MULTIPART)
    try:
        fields = form.multi_items()
        yield [await _field(name, value, inputs, is_multipart=is_multipart) for name, value in fields]
    finally:
        await form.close()


@asynccontextmanager
async def read_raw(headers: Headers, receive: Receive, annotation: Any) -> AsyncIterator[Any]:
    """A body that is the input itself: a text, bytes, or a file that is open inside the block.

    Raises Refusal and ClientGone.
    """
    if any(is_file(member) for member in members(annotation)):
        async with _spooled(headers) as file:
            await _receive_into(file, receive)
            yield file
        return
    body = await whole_body(receive)
    yield _text(body) if any(bare(member) is str for member in members(annotation)) else body


def raw_types(annotation: Any) -> tuple[str, ...]:
    """The content types that a body may have which is nothing but this input."""
    found: list[str] = []
    for member in members(annotation):
        plain = bare(member)
        if is_image(plain):
            found.append("image/*")
        elif plain is bytes or is_file(plain):
            found.append("application/octet-stream")
        elif plain is str:
            found.append("text/plain")
        elif one_array(plain) is not None:
            found.append("application/x-npy")
            found += ["image/*"] if ArrayValue(*tensor("", plain)).takes_images else []
    return tuple(dict.fromkeys(found))


async def _parsed(headers: Headers, stream: AsyncGenerator[bytes, None]) -> FormData:
    try:
        async with aclosing(stream):
            if headers["content-type"].lower().startswith(URLENCODED):
                parser = FormParser(headers, stream, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES)
                return await parser.parse()
            # Latin-1 keeps every byte: the parser would make a text of an image that comes without a file name.
            kept = Headers({"content-type": f"{headers['content-type']}; charset=latin-1"})
            return await MultiPartParser(
                kept, stream, max_files=_MOST_FIELDS, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES
            ).parse()
    except ClientDisconnect:
        raise ClientGone from None
    except MultiPartException as error:
        raise Refusal("invalid_request", f"the form cannot be read: {error.message}") from None
    except FormParserError as error:
        raise Refusal("invalid_request", f"the form cannot be read: {error}") from None


async def _field(name: str, value: str | StarletteUploadFile, inputs: Inputs, *, is_multipart: bool) -> Field:
    """Name and value of a field: a text, or of what is base64 in JSON and of files the bytes or the file itself."""
    if not is_multipart:
        return name, value
    name = _text(name.encode("latin-1"))
    if isinstance(value, str):
        data = value.encode("latin-1")
        return name, data if name in inputs.contents else _text(data)
    if value.filename is not None:
        value.filename = _text(value.filename.encode("latin-1"))
    return name, value if name in inputs.files else await value.read()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Refusal("invalid_request", f"the text in the body is no UTF-8: {error.reason}") from None


@asynccontextmanager
async def _spooled(headers: Headers) -> AsyncIterator[UploadFile]:
    with SpooledTemporaryFile(_SPOOLED_BYTES) as file:
        yield UploadFile(cast("BinaryIO", file), size=0, filename="", headers=headers)


async def _receive_into(file: UploadFile, receive: Receive) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        await file.write(message.get("body", b""))
        more = message.get("more_body", False)
    await file.seek(0)
