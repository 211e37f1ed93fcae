"""What a method returns, as the body of an answer."""

from pathlib import Path, PurePath
from typing import Any, Union

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError
from starlette.responses import FileResponse, Response

from samovar.errors import OutputError, TargetError, text_of
from samovar.service.acceptance import preferred
from samovar.service.images import encoded
from samovar.service.kinds import bare, holds_file, is_image, members, typed

__all__ = ["Items", "Results", "Whole"]

Whole = tuple[str, bytes]  # content type and body
_IMAGES = ("image/png", "image/jpeg")


class Results:
    """The results of one method, or the items that it yields.

    At the top, an image is an image's body, bytes are themselves, a path is the file there, and a response is the
    answer as it is; everything else, and everything inside, is JSON.
    """

    def __init__(self, place: str, annotation: Any) -> None:
        self._place = place
        self._image = self._bytes = self._path = self._response = False
        for member in members(annotation):
            self._note(bare(member))
        rest = [member for member in members(annotation) if not self._is_special(bare(member))]
        kept = Union[tuple(rest)] if rest else None  # noqa: UP007 - known at run time only
        self.adapter: TypeAdapter[Any] = TypeAdapter(typed(place, kept))
        self.has_json = bool(rest)
        self.is_json = not (self._image or self._bytes or self._path or self._response)

    @property
    def media(self) -> tuple[str, ...]:
        """The content types that an answer may have."""
        if self._response or self._path:
            return ("*/*",)
        found = ("application/json",) * self.has_json
        return found + _IMAGES * self._image + ("application/octet-stream",) * self._bytes

    @property
    def has_response(self) -> bool:
        """True if the method may answer with a status of its own."""
        return self._response

    def checked(self, value: Any) -> Any:
        """The value, with the types of the annotation. Raises OutputError."""
        try:
            return self.adapter.validator.validate_python(value)
        except ValidationError as error:
            raise _misfit(value, error) from None

    def json(self, value: Any) -> bytes:
        """The JSON of a value that fits the annotation. Raises OutputError."""
        try:
            checked = self.adapter.validator.validate_python(value)
            return self.adapter.serializer.to_json(checked, by_alias=True, fallback=_plain, warnings=False)
        except ValidationError as error:
            raise _misfit(value, error) from None
        except (PydanticSerializationError, UnicodeDecodeError, ValueError) as error:
            raise OutputError(f"the result cannot be sent: {text_of(error)}") from error

    def is_heavy(self, value: Any) -> bool:
        """True if the answer takes long to make: not on the event loop."""
        return self._image and hasattr(value, "convert")

    def whole(self, value: Any, accept: str) -> "Whole | Response":
        """The answer to a request whose Accept header is `accept`. Raises OutputError."""
        if self._response and isinstance(value, Response):
            return value
        if self._image and hasattr(value, "convert"):
            media = preferred(accept, _IMAGES)
            return media, encoded(value, media.removeprefix("image/"))
        if self._bytes and isinstance(value, bytes | bytearray | memoryview):
            return "application/octet-stream", bytes(value)
        if self._path and isinstance(value, PurePath):
            if not Path(value).is_file():
                raise OutputError(f"the result is the path {str(value)[:256]!r}, where no file is")
            return FileResponse(value)
        if not self.has_json:
            raise OutputError(f"the result is {type(value).__name__}", "return what the annotation says")
        return "application/json", self.json(value)

    def _note(self, member: Any) -> None:
        if holds_file(member):
            raise TargetError(f"{self._place} is an uploaded file", "return bytes, or the pathlib.Path of a file")
        self._image |= is_image(member)
        self._bytes |= member is bytes
        self._path |= isinstance(member, type) and issubclass(member, PurePath)
        self._response |= isinstance(member, type) and issubclass(member, Response)

    def _is_special(self, member: Any) -> bool:
        kinds = (PurePath, Response)
        return is_image(member) or member is bytes or (isinstance(member, type) and issubclass(member, kinds))


class Items(Results):
    """The items of a stream: each is JSON, images and bytes as base64."""

    def __init__(self, place: str, annotation: Any) -> None:
        super().__init__(place, annotation)
        self.adapter = TypeAdapter(typed(place, annotation))


def _misfit(value: Any, error: ValidationError) -> OutputError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = "".join(f"[{part!r}]" for part in first["loc"])
    wanted = first["msg"][:1].lower() + first["msg"][1:]
    return OutputError(f"the result{where} is {_kind(value, first['loc'])}: {wanted}", "return what is annotated")


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy, where an annotation says nothing of them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is nothing that JSON knows")


def _kind(value: Any, path: tuple[Any, ...]) -> str:
    """The type of what stands at `path` in a value."""
    for part in path:
        try:
            value = value[part]
        except (TypeError, LookupError):
            return type(value).__name__
    return type(value).__name__
