"""The endpoints of a service class: what the signatures of its `@samovar.api` methods say."""

import inspect
from collections import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from samovar.context import Context
from samovar.errors import TargetError
from samovar.service.declaration import Api, apis_of
from samovar.service.paths import parameters_of

__all__ = ["NO_DEFAULT", "Endpoint", "Parameter", "endpoints_of"]

NO_DEFAULT = inspect.Parameter.empty
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_ITERATORS = (abc.Iterator, abc.Generator, abc.Iterable)
_ASYNC_ITERATORS = (abc.AsyncIterator, abc.AsyncGenerator, abc.AsyncIterable)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method, as its function has it; the `samovar.Context` of the request is no client's to send."""

    name: str
    annotation: Any
    default: Any
    by_keyword: bool

    @property
    def is_context(self) -> bool:
        """True if the service fills it."""
        return self.annotation is Context


@dataclass(frozen=True)
class Endpoint:
    """One method and its address; `result` is what it returns or, if it `streams`, one item of what it yields."""

    attribute: str
    name: str
    path: str
    method: str
    idempotent: bool
    place: str
    description: str
    parameters: tuple[Parameter, ...]
    result: Any
    is_async: bool
    streams: bool

    @property
    def inputs(self) -> tuple[Parameter, ...]:
        """What clients send."""
        return tuple(parameter for parameter in self.parameters if not parameter.is_context)

    @property
    def has_body(self) -> bool:
        """False where inputs stand in the query string."""
        return self.method not in ("GET", "DELETE")


def endpoints_of(cls: type, name: str) -> list[Endpoint]:
    """The endpoints of a class that is served as `name`. Raises TargetError that names the line to write."""
    found = [_endpoint(cls, name, attribute, api) for attribute, api in apis_of(cls).items()]
    seen: dict[tuple[str, str], Endpoint] = {}
    names: dict[str, Endpoint] = {}
    for endpoint in found:
        address = (endpoint.method, "/".join("{}" if part[:1] == "{" else part for part in endpoint.path.split("/")))
        other = seen.setdefault(address, endpoint)
        if other is not endpoint:
            raise TargetError(
                f"{other.place} and {endpoint.place} both answer {endpoint.method} {endpoint.path}",
                "give one of them another path with @samovar.api(path=...)",
            )
        other = names.setdefault(endpoint.name, endpoint)
        if other is not endpoint:
            raise TargetError(
                f'{other.place} and {endpoint.place} are both called "{endpoint.name}"',
                "give one of them another name with @samovar.api(name=...)",
            )
    return found


def _endpoint(cls: type, service: str, attribute: str, api: Api) -> Endpoint:
    place = f"{cls.__name__}.{attribute}"
    function = _function(cls, attribute)
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    hints = _hints(place, function)
    name = api.name or attribute
    endpoint = Endpoint(
        attribute=attribute,
        name=name,
        path=api.path or f"/{service}/{name}",
        method=api.method,
        idempotent=api.idempotent,
        place=place,
        description=inspect.getdoc(function) or "",
        parameters=_parameters(cls, attribute, function, hints),
        result=_result(place, hints, is_async=is_async, streams=yields),
        is_async=is_async,
        streams=yields,
    )
    _check_path(endpoint, given=api.path is not None)
    return endpoint


def _function(cls: type, attribute: str) -> Any:
    found = inspect.getattr_static(cls, attribute)
    function = inspect.unwrap(found.__func__ if isinstance(found, staticmethod | classmethod) else found)
    assert callable(function)  # the decorator has seen to it
    return function


def _hints(place: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception as error:
        raise TargetError(
            f"the annotations of {place} cannot be evaluated: {error}",
            "import what they name at run time, not under TYPE_CHECKING",
        ) from error


def _parameters(
    cls: type, attribute: str, function: Callable[..., Any], hints: dict[str, Any]
) -> tuple[Parameter, ...]:
    parameters = list(inspect.signature(function).parameters.values())
    if not isinstance(inspect.getattr_static(cls, attribute), staticmethod):
        if not parameters:
            raise TargetError(f"{cls.__name__}.{attribute} has no self", f"write def {attribute}(self, ...)")
        parameters = parameters[1:]
    place = f"{cls.__name__}.{attribute}"
    for parameter in parameters:
        if parameter.kind in _VARIABLE:
            shown = str(parameter).partition(":")[0]
            raise TargetError(f"{place} takes {shown}", "name each input as a parameter of its own")
        if parameter.name not in hints:
            raise TargetError(
                f'parameter "{parameter.name}" of {place} has no annotation',
                f"write for instance {parameter.name}: str, {parameter.name}: samovar.Image",
            )
    keyword = inspect.Parameter.KEYWORD_ONLY
    return tuple(Parameter(p.name, hints[p.name], p.default, p.kind is keyword) for p in parameters)


def _result(place: str, hints: dict[str, Any], *, is_async: bool, streams: bool) -> Any:
    if "return" not in hints:
        example = f"-> {'Async' * is_async}Iterator[str]" if streams else "-> dict[str, float], or -> None"
        raise TargetError(f"{place} has no return annotation", f"write for instance {example}")
    annotation = hints["return"]
    origin = get_origin(annotation) or annotation
    if not streams:
        if origin in _ITERATORS + _ASYNC_ITERATORS:
            raise TargetError(
                f"{place} is annotated to return an iterator, but does not yield",
                "yield the items in it, or return a list",
            )
        return annotation
    kinds, example = (_ASYNC_ITERATORS, "AsyncIterator") if is_async else (_ITERATORS, "Iterator")
    if origin not in kinds or not get_args(annotation):
        raise TargetError(
            f"{place} yields, but its return annotation is no {example} of items", f"write -> {example}[...]"
        )
    return get_args(annotation)[0]


def _check_path(endpoint: Endpoint, *, given: bool) -> None:
    """Each name in braces is a parameter, once."""
    names, known = parameters_of(endpoint.path), [parameter.name for parameter in endpoint.inputs]
    for name in names if given else []:
        if name not in known:
            raise TargetError(
                f'path "{endpoint.path}" of {endpoint.place} has {{{name}}}, which is none of its parameters',
                f"its parameters are: {', '.join(known) or 'none'}",
            )
        if names.count(name) > 1:
            raise TargetError(f'path "{endpoint.path}" of {endpoint.place} has {{{name}}} twice', "rename one")
