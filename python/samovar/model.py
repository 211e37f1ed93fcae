"""The decorator that makes a plain class a model."""

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from typing import Any, TypeVar, overload

from samovar.config.options import MODEL_OPTIONS, check_options, close_match
from samovar.errors import ConfigError
from samovar.types import check_name

__all__ = ["Declaration", "declaration_of", "declare", "model", "snake_case"]

_MARK = "__samovar_model__"
_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True)
class Declaration:
    """What a decorator says: name, version, and only those options that it sets (keys of ModelConfig)."""

    name: str
    version: str
    options: dict[str, Any]


@overload
def model(decorated: _Class, /) -> _Class: ...
@overload
def model(*, name: str | None = None, version: str | int = "1", **options: Any) -> Callable[[_Class], _Class]: ...
def model(decorated: Any = None, /, *, name: str | None = None, version: str | int = "1", **options: Any) -> Any:
    """Mark a class as a model; the class itself stays as it is.

    `name` is the class name in snake_case unless given; `options` are the fields of `samovar.config.ModelConfig`:
    max_batch_size, instances, concurrency, idempotent and so on. Raises ConfigError for an unknown option or a value
    that does not fit.
    """

    def decorate(cls: _Class) -> _Class:
        if not isinstance(cls, type):
            raise ConfigError(f"@samovar.model stands above {cls!r}", "put it above a class that has a predict method")
        where = f"in @samovar.model of class {cls.__name__}"
        setattr(cls, _MARK, declare(where, snake_case(cls.__name__) if name is None else name, version, options))
        return cls

    return decorate if decorated is None else decorate(decorated)


def declaration_of(cls: type) -> Declaration | None:
    """What the decorator of this very class says; a subclass does not inherit it."""
    declaration = vars(cls).get(_MARK)
    return declaration if isinstance(declaration, Declaration) else None


def snake_case(name: str) -> str:
    """`LprNet` is lpr_net, `HTTPModel` is http_model."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def declare(
    where: str,
    name: Any,
    version: Any,
    options: dict[str, Any],
    known: Mapping[str, "Field[Any]"] = MODEL_OPTIONS,
) -> Declaration:
    """What a decorator was given, checked; `where` ends the messages: `in @samovar.model of class M`."""
    for option in options:
        if option not in known:
            raise ConfigError(f'unknown setting "{option}" {where}', close_match(option, ["name", "version", *known]))
    if isinstance(version, int) and not isinstance(version, bool):
        version = str(version)
    for kind, value in (("model", name), ("version", version)):
        fault = check_name(kind, value) if isinstance(value, str) else f"the {kind} name is {value!r}, no text"
        if fault:
            decorator = where.split()[1]
            raise ConfigError(
                f"{fault} ({where})", f"choose another with {decorator}({'name' if kind == 'model' else kind}=...)"
            )
    return Declaration(name, version, check_options(options, known, where))
