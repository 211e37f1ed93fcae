"""A request that a service would answer, for people to try: it travels with the description of the service."""

from collections.abc import Sequence
from math import prod
from typing import Any

from samovar.codecs.annotations import one_array, tensor
from samovar.service.endpoints import NO_DEFAULT, Endpoint, Parameter, endpoints_of
from samovar.service.kinds import bare, is_file, is_image
from samovar.types import Datatype

__all__ = ["request_of"]

_MAX_ELEMENTS = 64
_VALUES: dict[Any, Any] = {str: "text", int: 1, float: 0.5, bool: True}


def request_of(cls: type, name: str) -> dict[str, Any] | None:
    """Of the first method that takes plain values, arrays or files; None where each wants records.

    `method`, `path` with its parameters filled, `fields` by name, and `files`: the names of fields that are files.
    """
    return next((found for endpoint in endpoints_of(cls, name) if (found := _request(endpoint)) is not None), None)


def _request(endpoint: Endpoint) -> dict[str, Any] | None:
    needed = [parameter for parameter in endpoint.inputs if parameter.default is NO_DEFAULT]
    files = [parameter.name for parameter in needed if _is_file(parameter)]
    values = {parameter.name: _value(parameter.annotation) for parameter in needed if parameter.name not in files}
    if None in values.values():
        return None
    path = endpoint.path
    for parameter in [name for name in values if f"{{{name}}}" in path]:
        path = path.replace(f"{{{parameter}}}", str(values.pop(parameter)))
    return {"method": endpoint.method, "path": path, "fields": values, "files": files}


def _is_file(parameter: Parameter) -> bool:
    plain = bare(parameter.annotation)
    return plain is bytes or is_image(plain) or is_file(plain)


def _value(annotation: Any) -> Any:
    plain = bare(annotation)
    if one_array(plain) is None:
        return _VALUES.get(plain) if isinstance(plain, type) else None
    datatype, axes = tensor("an example", plain)
    shape = [axis if isinstance(axis, int) else 1 for axis in axes]
    return _nested(0 if datatype is not Datatype.BYTES else "text", shape) if prod(shape) <= _MAX_ELEMENTS else None


def _nested(value: Any, shape: Sequence[int]) -> Any:
    for length in reversed(shape):
        value = [value] * length
    return value
