"""A model class in memory: made, loaded, called, unloaded."""

import inspect
from collections.abc import Awaitable, Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

from samovar.errors import LoadError, OutputError, text_of
from samovar.runtimes.python import signature
from samovar.runtimes.python.importing import import_file, place_in
from samovar.runtimes.python.inspection import check_concurrency, find_class

__all__ = ["PythonModel", "load"]

_Outputs = tuple[Any, ...]


def load(spec: dict[str, Any]) -> "PythonModel":
    """Find the class that a version's specification names and make one of it. Raises TargetError or LoadError."""
    path = Path(spec["source"]["path"])
    cls = find_class(import_file(path), path, spec["source"]["class"])
    check_concurrency(cls, spec["options"]["concurrency"])
    return PythonModel(cls)


class PythonModel:
    """One object of a user's class."""

    def __init__(self, cls: type) -> None:
        self.is_async = signature.is_async(cls)
        self._name = cls.__name__
        self._file = inspect.getfile(cls)
        self._object = _run_user_code(f"{cls.__name__}()", self._file, cls)
        self._split = _splitter(cls)
        self._call = _caller(self._object.predict, signature.keyword_names(cls))

    def start(self) -> Awaitable[None] | None:
        """Run the user's load, if there is one; an awaitable if it is async. Raises LoadError."""
        return self._run_hook("load")

    def close(self) -> Awaitable[None] | None:
        """Run the user's unload, if there is one; an awaitable if it is async. Raises LoadError."""
        return self._run_hook("unload")

    def predict(self, inputs: list[Any]) -> Any:
        """Run one call; the outputs in the order of the signature, or an awaitable of them if `is_async`."""
        result = self._call(inputs)
        return self._finish(result) if self.is_async else self._split(result)

    async def _finish(self, result: Any) -> _Outputs:
        return self._split(await result)

    def _run_hook(self, hook: str) -> Awaitable[None] | None:
        method = getattr(self._object, hook, None)
        if method is None:
            return None
        place = f"{self._name}.{hook}()"
        result = _run_user_code(place, self._file, method)
        return _await_user_code(place, self._file, result) if inspect.isawaitable(result) else None


def _run_user_code(place: str, file: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except BaseException as error:  # sys.exit() too: the worker lives on and says so
        raise _load_error(place, file, error) from error


async def _await_user_code(place: str, file: str, awaitable: Awaitable[Any]) -> None:
    try:
        await awaitable
    except BaseException as error:
        raise _load_error(place, file, error) from error


def _load_error(place: str, file: str, error: BaseException) -> LoadError:
    summary = f"{type(error).__name__}: {text_of(error)}".removesuffix(": ")
    return LoadError(f"{place} raised {summary}", place_in(file, error) or "its traceback shows where")


def _caller(predict: Callable[..., Any], keywords: list[str]) -> Callable[[list[Any]], Any]:
    """A function of the list of arrays; parameters that are keyword-only come last in every signature."""
    if not keywords:
        return lambda inputs: predict(*inputs)

    def call(inputs: list[Any]) -> Any:
        first = len(inputs) - len(keywords)
        return predict(*inputs[:first], **dict(zip(keywords, inputs[first:], strict=True)))

    return call


def _splitter(cls: type) -> Callable[[Any], _Outputs]:
    """A function from what `predict` returns to the tuple of its outputs."""
    annotation = signature.return_type(cls)
    names = signature.output_fields(annotation)
    if names is None:
        return lambda result: (result,)
    if issubclass(annotation, tuple):
        return lambda result: _as_tuple(cls, annotation, result)
    fields = attrgetter(*names)

    def split(result: Any) -> _Outputs:
        try:
            return (fields(result),) if len(names) == 1 else fields(result)
        except AttributeError as error:
            raise _misfit(cls, annotation, result) from error

    return split


def _as_tuple(cls: type, annotation: Any, result: Any) -> _Outputs:
    if isinstance(result, tuple) and len(result) == len(annotation._fields):
        return result
    raise _misfit(cls, annotation, result)


def _misfit(cls: type, annotation: type, result: Any) -> OutputError:
    return OutputError(
        f"{cls.__name__}.predict returned {type(result).__name__}", f"return the {annotation.__name__} that it declares"
    )
