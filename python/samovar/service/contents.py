"""Bytes and uploaded files: base64 in JSON, themselves elsewhere."""

from base64 import b64encode
from io import BytesIO
from typing import Any

from fastapi import UploadFile
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from starlette.datastructures import UploadFile as StarletteUploadFile

from samovar.service.images import unbase64

__all__ = ["BytesValue", "FileValue"]


class BytesValue:
    """How pydantic reads and writes `bytes`."""

    def __get_pydantic_core_schema__(self, _: Any, __: Any) -> CoreSchema:
        return core_schema.json_or_python_schema(
            core_schema.no_info_after_validator_function(unbase64, core_schema.str_schema(strict=True)),
            core_schema.no_info_plain_validator_function(_bytes),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda data: b64encode(data).decode()),
        )

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: Any) -> dict[str, Any]:
        return {"type": "string", "format": "byte", "contentEncoding": "base64"}


class FileValue:
    """How pydantic reads `samovar.File`; a result is no file of this kind."""

    def __get_pydantic_core_schema__(self, _: Any, __: Any) -> CoreSchema:
        return core_schema.json_or_python_schema(
            core_schema.no_info_after_validator_function(
                lambda text: _file(unbase64(text)), core_schema.str_schema(strict=True)
            ),
            core_schema.no_info_plain_validator_function(_file),
        )

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: Any) -> dict[str, Any]:
        return {"type": "string", "format": "byte", "contentEncoding": "base64"}


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):  # the field of a form
        return value.encode()
    raise PydanticCustomError("bytes", "{text}", {"text": f"{type(value).__name__} is no bytes"})


def _file(value: Any) -> UploadFile:
    if isinstance(value, UploadFile):
        return value
    if isinstance(value, StarletteUploadFile):
        return UploadFile(value.file, size=value.size, filename=value.filename, headers=value.headers)
    data = _bytes(value)
    return UploadFile(BytesIO(data), size=len(data), filename="")
