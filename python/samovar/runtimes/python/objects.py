"""One object of a user's class: made, loaded, unloaded; what goes wrong names the line."""

import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from samovar.errors import LoadError, TargetError, text_of
from samovar.runtimes.python.importing import place_in
from samovar.service.uses import bind, uses_of

__all__ = ["UserObject"]


class UserObject:
    """`value` is the object; `uses` leads the handles of its class through the engine (see `samovar.service.uses`)."""

    def __init__(self, cls: type, uses: Mapping[str, Mapping[str, Any]]) -> None:
        self._name = cls.__name__
        self._file = getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
        _check_uses(cls, uses)
        bind(cls, uses)
        self.value = _run_user_code(f"{cls.__name__}()", self._file, cls)

    def start(self) -> Awaitable[None] | None:
        """Run the user's load, if there is one; an awaitable if it is async. Raises LoadError."""
        return self._run_hook("load")

    def close(self) -> Awaitable[None] | None:
        """Run the user's unload, if there is one; an awaitable if it is async. Raises LoadError."""
        return self._run_hook("unload")

    def samples(self) -> Any:
        """What the user's warm_up gives, of one that yields a list; an awaitable if it is async. Raises LoadError."""
        place, method = f"{self._name}.warm_up()", self.value.warm_up
        result = _run_user_code(place, self._file, lambda: _gathered(method()))
        return _await_user_code(place, self._file, result) if inspect.isawaitable(result) else result

    def _run_hook(self, hook: str) -> Awaitable[None] | None:
        method = getattr(self.value, hook, None)
        if method is None:
            return None
        place = f"{self._name}.{hook}()"
        result = _run_user_code(place, self._file, method)
        return _await_user_code(place, self._file, result) if inspect.isawaitable(result) else None


def _check_uses(cls: type, uses: Mapping[str, Any]) -> None:
    """The file may have been written since it was described. Raises TargetError."""
    new = [attribute for attribute in uses_of(cls) if attribute not in uses]
    if new:
        raise TargetError(
            f'class {cls.__name__} has the handle "{new[0]}", which it had not when it was described',
            "load it again",
        )


def _run_user_code(place: str, file: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except BaseException as error:  # sys.exit() too: the worker lives on and says so
        raise _load_error(place, file, error) from error


async def _await_user_code(place: str, file: str, awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except BaseException as error:
        raise _load_error(place, file, error) from error


def _gathered(result: Any) -> Any:
    """What is yielded, as a list, or an awaitable of one; everything else as it is."""
    if isinstance(result, AsyncIterator):
        return _gathered_async(result)
    return list(result) if isinstance(result, Iterator) else result


async def _gathered_async(result: AsyncIterator[Any]) -> list[Any]:
    return [sample async for sample in result]


def _load_error(place: str, file: str, error: BaseException) -> LoadError:
    summary = f"{type(error).__name__}: {text_of(error)}".removesuffix(": ")
    return LoadError(f"{place} raised {summary}", place_in(file, error) or "its traceback shows where")
