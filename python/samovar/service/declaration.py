"""The decorators that make a plain class a service and its methods endpoints, and the mounting of applications."""

import re
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from samovar.config.options import MODEL_OPTIONS, SERVICE_OPTIONS
from samovar.errors import ConfigError
from samovar.model import Declaration, declare, snake_case
from samovar.service.paths import check_path

__all__ = [
    "Api",
    "Mounted",
    "api",
    "api_of",
    "apis_of",
    "mount",
    "mounts_of",
    "service",
    "service_declaration_of",
]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
CONCURRENCY = 100  # of a service that says nothing: its requests mostly wait for models
_MARK = "__samovar_service__"
_API = "__samovar_api__"
_MOUNTS = "__samovar_mounts__"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_Class = TypeVar("_Class", bound=type)
_Method = TypeVar("_Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class Api:
    """What `@samovar.api` says of a method; None is "not said"."""

    path: str | None
    method: str
    idempotent: bool
    name: str | None


@dataclass(frozen=True)
class Mounted:
    """An application and the path below which it answers."""

    path: str
    application: Callable[..., Any]


@overload
def service(decorated: _Class, /) -> _Class: ...
@overload
def service(*, name: str | None = None, version: str | int = "1", **options: Any) -> Callable[[_Class], _Class]: ...
def service(decorated: Any = None, /, *, name: str | None = None, version: str | int = "1", **options: Any) -> Any:
    """Mark a class as a service; the class itself stays as it is.

    `name` is the class name in snake_case unless given; `options` are instances, concurrency (100 requests at a time
    unless given), load_timeout_s, request_timeout_s, max_request_timeout_s, hard_kill_after_s, max_memory_bytes,
    max_queue_items, max_queue_bytes. Raises ConfigError for another option or a value that does not fit.
    """

    def decorate(cls: _Class) -> _Class:
        if not isinstance(cls, type):
            raise ConfigError(
                f"@samovar.service stands above {cls!r}", "put it above a class with @samovar.api methods"
            )
        chosen = snake_case(cls.__name__) if name is None else name
        setattr(cls, _MARK, _declaration(cls.__name__, chosen, version, options))
        return cls

    return decorate if decorated is None else decorate(decorated)


def service_declaration_of(cls: type) -> Declaration | None:
    """What the decorator of this very class says; a subclass does not inherit it."""
    declaration = vars(cls).get(_MARK)
    return declaration if isinstance(declaration, Declaration) else None


@overload
def api(decorated: _Method, /) -> _Method: ...
@overload
def api(
    *, path: str | None = None, method: str = "POST", idempotent: bool | None = None, name: str | None = None
) -> Callable[[_Method], _Method]: ...
def api(
    decorated: Any = None,
    /,
    *,
    path: str | None = None,
    method: str = "POST",
    idempotent: bool | None = None,
    name: str | None = None,
) -> Any:
    """Mark a method of a service as an endpoint: `def`, `async def`, and either of them with `yield`.

    It answers at `/<service>/<method>`, or at `path`, which may hold `{parameters}`; `name` stands for the method's own
    name. `idempotent` says that a request may run twice, after a worker's death for instance; GET may. Raises
    ConfigError.
    """

    def decorate(function: _Method) -> _Method:
        where = f"in @samovar.api of {getattr(function, '__qualname__', repr(function))}"
        if isinstance(function, type) or not (callable(function) or isinstance(function, staticmethod | classmethod)):
            raise ConfigError(f"@samovar.api stands above {function!r}", "put it above a method of a service")
        setattr(function, _API, _api(where, path, method, idempotent, name))
        return function

    return decorate if decorated is None else decorate(decorated)


def api_of(attribute: Any) -> Api | None:
    """What the decorator says of a class's attribute."""
    found = getattr(attribute, _API, None)
    return found if isinstance(found, Api) else None


def apis_of(cls: type) -> dict[str, Api]:
    """The endpoints of a class and its bases, by the name of the attribute, in the order of their definition.

    One that a subclass defines anew without the decorator is none.
    """
    found: dict[str, Api] = {}
    for base in reversed(cls.__mro__):
        for attribute, value in vars(base).items():
            declared = api_of(value)
            if declared is not None:
                found[attribute] = declared
            else:
                found.pop(attribute, None)
    return found


def mount(path: str, application: Callable[..., Any]) -> None:
    """Answer below `path` with an ASGI application, WebSockets included.

    In the body of a service class the application shares that service's worker. At the top of a file it is a service
    of its own, named after the first segment of its path. Raises ConfigError.
    """
    where = "in samovar.mount"
    mounted = Mounted(check_path(path, where, parameters=False), application)
    if not callable(application):
        raise ConfigError(f"samovar.mount({path!r}, ...) has {application!r}", "give it an ASGI application")
    frame = sys._getframe(1)  # noqa: SLF001 - who calls says whose the application is
    if frame.f_locals is frame.f_globals:
        _mount_in_module(frame.f_globals, mounted)
    elif "__qualname__" in frame.f_locals:
        frame.f_locals.setdefault(_MOUNTS, []).append(mounted)
    else:
        raise ConfigError(
            f"samovar.mount({path!r}, ...) stands in a function",
            "write it into the body of a service class, or at the top of the file",
        )


def mounts_of(cls: type) -> list[Mounted]:
    """The applications of a service and its bases, in the order of their definition."""
    return [mounted for base in reversed(cls.__mro__) for mounted in vars(base).get(_MOUNTS, ())]


def _mount_in_module(namespace: MutableMapping[str, Any], mounted: Mounted) -> None:
    """A service class without methods, as an attribute of the file like any other; applications share it by name."""
    name = mounted.path.split("/")[1]
    attribute = "mounted_" + re.sub(r"\W", "_", name)
    cls = namespace.get(attribute)
    if cls is None:
        text = f"Applications below /{name}."
        cls = type(attribute, (), {"__module__": namespace["__name__"], "__doc__": text, _MOUNTS: []})
        namespace[attribute] = service(name=name)(cls)
    vars(cls)[_MOUNTS].append(mounted)


def _declaration(class_name: str, name: Any, version: Any, options: dict[str, Any]) -> Declaration:
    where = f"in @samovar.service of class {class_name}"
    for option in options:
        if option in MODEL_OPTIONS and option not in SERVICE_OPTIONS:
            cure = (
                "say it for each method with @samovar.api(idempotent=True)"
                if option == "idempotent"
                else "set it for the models that the service uses"
            )
            raise ConfigError(f'setting "{option}" {where} is one of models', cure)
    declared = declare(where, name, version, options, SERVICE_OPTIONS)
    return Declaration(declared.name, declared.version, {"concurrency": CONCURRENCY, **declared.options})


def _api(where: str, path: Any, method: Any, idempotent: Any, name: Any) -> Api:
    if path is not None:
        check_path(path, where, parameters=True)
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise ConfigError(f"method {method!r} {where} is none that is served", f"known are {', '.join(METHODS)}")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ConfigError(f"name {name!r} {where} cannot name a method", "write letters, digits and _")
    if not isinstance(idempotent, bool | None):
        raise ConfigError(f"idempotent {idempotent!r} {where} is no truth", "it wants true or false")
    if method.upper() == "GET" and idempotent is False:
        raise ConfigError(f"idempotent=False {where} contradicts GET", "use POST for what may not run twice")
    return Api(path, method.upper(), method.upper() == "GET" or bool(idempotent), name)
