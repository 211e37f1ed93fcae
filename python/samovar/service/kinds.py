"""What an annotation asks for: images, bytes, files and typed arrays have forms of their own, the rest is pydantic."""

import dataclasses
import types
from pathlib import PurePath
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import PydanticUserError, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError

from samovar.codecs.annotations import one_array, tensor
from samovar.errors import TargetError
from samovar.service.arrays import ArrayValue
from samovar.service.contents import BytesValue, FileValue
from samovar.service.images import ImageValue
from samovar.service.records import RecordValue
from samovar.service.schemas import SchemaGenerator

__all__ = ["bare", "holds_file", "is_decoded", "is_file", "is_image", "members", "record_fields", "typed"]


def typed(place: str, annotation: Any) -> Any:
    """The annotation as pydantic validates and serialises it; `place` says whose it is.

    Raises TargetError, with the cure, for what has no form at all.
    """
    found = _Rewriting(place).of(annotation)
    try:
        TypeAdapter(found).json_schema(schema_generator=SchemaGenerator)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
        reason = str(error).partition("\n")[0].partition(". Set")[0]
        raise TargetError(
            f"{place} has a type that cannot be served: {reason}",
            "write a pydantic model, a dataclass, a typed array, samovar.Image, samovar.File, or what JSON knows",
        ) from error
    return found


def bare(annotation: Any) -> Any:
    """The annotation without its metadata, unless that is what makes it an array."""
    while get_origin(annotation) is Annotated and one_array(annotation) is None:
        annotation = get_args(annotation)[0]
    return annotation


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union; of anything else, itself."""
    plain = bare(annotation)
    return tuple(get_args(plain)) if get_origin(plain) in (Union, types.UnionType) else (annotation,)


def is_image(annotation: Any) -> bool:
    """True for the class of Pillow, which need not be imported to be known."""
    plain = bare(annotation)
    return getattr(plain, "__name__", "") == "Image" and getattr(plain, "__module__", "") == "PIL.Image"


def is_file(annotation: Any) -> bool:
    """True for the uploaded files of FastAPI and Starlette."""
    from starlette.datastructures import UploadFile

    plain = bare(annotation)
    return isinstance(plain, type) and issubclass(plain, UploadFile)


def holds_file(annotation: Any) -> bool:
    """True if a value has an uploaded file in it."""
    return is_file(annotation) or any(holds_file(part) for part in get_args(bare(annotation)))


def is_decoded(annotation: Any) -> bool:
    """True if a value has an image in it, or may be an array from an image's file."""
    array = one_array(annotation)
    if array is not None:
        return ArrayValue(*tensor("", annotation)).takes_images
    return is_image(annotation) or any(is_decoded(part) for part in get_args(bare(annotation)))


def record_fields(annotation: Any) -> dict[str, Any] | None:
    """The fields of a NamedTuple or dataclass with their annotations; None for anything else."""
    plain = bare(annotation)
    if not isinstance(plain, type) or one_array(plain) is not None:
        return None
    if dataclasses.is_dataclass(plain):
        hints = get_type_hints(plain, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(plain) if field.init}
    if issubclass(plain, tuple) and hasattr(plain, "_fields"):
        hints = get_type_hints(plain, include_extras=True)
        return {name: hints.get(name, Any) for name in plain._fields}
    return None


class _Rewriting:
    """One annotation on its way to pydantic; `open` are the records it is inside of."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._open: list[type] = []

    def of(self, annotation: Any) -> Any:
        """The same annotation, new where something inside has a form of its own."""
        special = self._special(annotation)
        if special is not None:
            return Annotated[Any, special]
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            inner = self.of(args[0])
            return annotation if inner is args[0] else Annotated[(inner, *args[1:])]
        rewritten = [self.of(argument) for argument in args] if origin in _CONTAINERS else list(args)
        if all(new is old for new, old in zip(rewritten, args, strict=True)):
            return self._record(annotation)
        if origin in (Union, types.UnionType):
            return Union[tuple(rewritten)]  # noqa: UP007 - known at run time only
        return origin[tuple(rewritten)]

    def _special(self, annotation: Any) -> Any:
        array = one_array(annotation)
        if array is not None:
            return ArrayValue(*tensor(self._place, annotation))
        if annotation is bytes:
            return BytesValue()
        if get_origin(annotation) is Annotated:
            return None
        if is_image(annotation):
            return ImageValue()
        if is_file(annotation):
            return FileValue()
        if getattr(annotation, "__name__", "") == "ndarray":
            tensor(self._place, annotation)  # raises: it says neither dtype nor shape
        if isinstance(annotation, type) and issubclass(annotation, PurePath):
            raise TargetError(f"{self._place} is a path", "take a samovar.File: clients send files, not places")
        return None

    def _record(self, annotation: Any) -> Any:
        """Named tuples are objects in JSON, and dataclasses may hold what pydantic does not know."""
        if annotation in self._open:
            return annotation
        fields = record_fields(annotation)
        if fields is None:
            return annotation
        self._open.append(annotation)
        rewritten = {name: self.of(field) for name, field in fields.items()}
        self._open.pop()
        if dataclasses.is_dataclass(annotation) and all(rewritten[name] is fields[name] for name in fields):
            return annotation
        return Annotated[Any, RecordValue(annotation, rewritten)]


_CONTAINERS = (list, dict, tuple, set, frozenset, Union, types.UnionType)
