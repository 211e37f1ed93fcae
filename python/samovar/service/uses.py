"""`samovar.use`: what a service or a model says of the models that it calls."""

import sys
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from samovar.config.declared import Declared, read_declared
from samovar.errors import TargetError
from samovar.model import declaration_of
from samovar.service.declaration import service_declaration_of
from samovar.service.handles import Handle, Route
from samovar.service.steps import EngineRoute, caller
from samovar.types import check_name

__all__ = ["Use", "bind", "set_opener", "use", "uses_of"]

_open: Callable[["Use"], Route] | None = None


def use(target: "type | str | PathLike[str]", *, version: str | int | None = None, **settings: Any) -> "Use":
    """A handle of another model, in the body of a class: `stn = samovar.use(Stn)`, then `await self.stn.predict(x)`.

    `target` is a decorated class, a file or folder (relative to the file that says so; `"x.py:Class"` is one class), or
    the name of a model that the engine has. `version` names one of its versions; without it, that which a request
    without a version would get. `settings` are the keys of a model in samovar.toml, for a file or folder alone: what
    they leave out of `inputs`, `outputs` and the like is read from the file as ever. In a process without an engine, a
    test for instance, a handle works on an object of this process. Raises TargetError outside a class body, and for
    what is no model; ConfigError for a setting that does not fit.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - who calls says where paths begin
    if frame.f_locals is frame.f_globals or "__qualname__" not in frame.f_locals:
        raise TargetError(
            f"samovar.use({_shown(target)}) stands outside a class",
            "write it into the body of a service or model class: name = samovar.use(...)",
        )
    file = frame.f_globals.get("__file__")
    folder = Path(file).absolute().parent if file else Path.cwd()
    declared = read_declared(settings, f"in samovar.use({_shown(target)})")
    return Use(_checked(target), _checked_version(version), folder, declared)


class Use:
    """What `samovar.use` leaves in a class: an attribute that is a handle."""

    def __init__(
        self, target: "type | str | PathLike[str]", version: str | None, folder: Path, declared: Declared
    ) -> None:
        self.target = target
        self.version = version
        self.folder = folder  # where relative paths begin
        self.declared = declared  # of the model of a file
        self.attribute = ""
        self._bound: dict[type, Handle] = {}  # by the class whose instance it serves: subclasses share this object
        self._here = Handle(self._route_here)
        self._opened: Route | None = None

    def __set_name__(self, _: type, name: str) -> None:
        self.attribute = name

    def __get__(self, _: object, owner: type) -> Handle:
        return self._bound.get(owner, self._here)

    def bind(self, owner: type, route: Route) -> None:
        """From here on the handle of instances of `owner` is this route."""
        self._bound[owner] = Handle(lambda: route)

    def _route_here(self) -> Route:
        """An object of this process, made at the first call: to look at a class loads nothing."""
        if self._opened is None:
            assert _open is not None, "samovar/__init__.py sets it"
            self._opened = _open(self)
        return self._opened


def uses_of(cls: type) -> dict[str, Use]:
    """What a class and its bases use, by attribute."""
    found = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
    return {name: value for name, value in found.items() if isinstance(value, Use)}


def bind(cls: type, bound: Mapping[str, Mapping[str, Any]]) -> None:
    """Lead the handles of a class through the engine, each as `bound` has it; nothing in a process without one."""
    worker = caller()
    if worker is None:
        return
    for attribute, declared in uses_of(cls).items():
        declared.bind(cls, EngineRoute(worker, bound[attribute]))


def set_opener(opener: Callable[[Use], Route]) -> None:
    """What makes an object of this process for a handle."""
    global _open  # noqa: PLW0603 - set once, by the package itself
    _open = opener


def _checked(target: Any) -> "type | str | PathLike[str]":
    if isinstance(target, type):
        _check_class(target)
        return target
    if isinstance(target, str | PathLike) and str(target):
        return target
    raise TargetError(f"samovar.use({_shown(target)}) names no model", "give a decorated class, a path, or a name")


def _check_class(cls: type) -> None:
    service = service_declaration_of(cls)
    if service is not None:
        raise TargetError(
            f"samovar.use({cls.__name__}): {cls.__name__} is a service, and services are called by clients alone",
            "put what both need into a model, or name one of its methods that take tensors: "
            f'samovar.use("{service.name}.METHOD")',
        )
    if declaration_of(cls) is None:
        raise TargetError(
            f"samovar.use({cls.__name__}): {cls.__name__} is no model",
            f"write @samovar.model above class {cls.__name__}",
        )


def _checked_version(version: Any) -> str | None:
    if version is None:
        return None
    text = str(version) if isinstance(version, int) and not isinstance(version, bool) else version
    fault = check_name("version", text) if isinstance(text, str) else f"the version is {version!r}, no text"
    if fault:
        raise TargetError(f"{fault} (in samovar.use)", 'give one that the model has: version="2"')
    return text


def _shown(target: Any) -> str:
    return target.__name__ if isinstance(target, type) else repr(target)[:100]
