"""A model class in memory: loaded, called, unloaded."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from operator import attrgetter
from pathlib import Path
from typing import Any

from samovar.context import Context, running
from samovar.errors import OutputError
from samovar.runtimes.python import signature
from samovar.runtimes.python.classes import find_model
from samovar.runtimes.python.importing import import_file
from samovar.runtimes.python.inspection import check_concurrency
from samovar.runtimes.python.objects import UserObject

__all__ = ["PythonModel", "load"]

_Outputs = tuple[Any, ...]


def load(spec: dict[str, Any]) -> "PythonModel":
    """Find the class that a version's specification names and make one of it. Raises TargetError or LoadError."""
    path = Path(spec["source"]["path"])
    cls = find_model(import_file(path), path, spec["source"]["class"])
    check_concurrency(cls, spec["options"]["concurrency"])
    return PythonModel(cls, spec["name"], spec["source"]["uses"])


class PythonModel:
    """One object of a user's class; `name` is that of the model."""

    is_user_code = True

    def __init__(self, cls: type, name: str, uses: Mapping[str, Mapping[str, Any]]) -> None:
        self.is_async = signature.is_async(cls)
        self.streams = signature.streams(cls)
        self._split = _splitter(cls)
        self._object = UserObject(cls, uses)
        self.samples = self._object.samples if hasattr(cls, "warm_up") else None
        self._call = _caller(self._object.value.predict, signature.arguments(cls), name)

    def start(self) -> Awaitable[None] | None:
        """Run the user's load, if there is one; an awaitable if it is async. Raises LoadError."""
        return self._object.start()

    def close(self) -> Awaitable[None] | None:
        """Run the user's unload, if there is one; an awaitable if it is async. Raises LoadError."""
        return self._object.close()

    def predict(self, inputs: Sequence[Any]) -> Any:
        """Run one call: the outputs in the order of the signature, or an awaitable of them if `is_async`.

        If it `streams`, a generator of the outputs of each part, an asynchronous one if `is_async`.
        """
        result = self._call(inputs)
        if self.streams:
            return self._parts_async(result) if self.is_async else self._parts(result)
        return self._finish(result) if self.is_async else self._split(result)

    async def _finish(self, result: Any) -> _Outputs:
        return self._split(await result)

    def _parts(self, result: Any) -> Generator[_Outputs, None, None]:
        with closing(result):
            for part in result:
                yield _with_axes(self._split(part))

    async def _parts_async(self, result: Any) -> AsyncGenerator[_Outputs, None]:
        async with aclosing(result):
            async for part in result:
                yield _with_axes(self._split(part))


def _with_axes(outputs: _Outputs) -> _Outputs:
    """Parts are joined along their first axis: a number or a text gets one."""
    import numpy as np

    return tuple(
        np.array([value], object if isinstance(value, str | bytes) else None) if np.ndim(value) == 0 else value
        for value in outputs
    )


def _caller(
    predict: Callable[..., Any], arguments: Sequence[signature.Argument], name: str
) -> Callable[[Sequence[Any]], Any]:
    """A function of the list of arrays; where predict wants the context of its call, that is added."""
    if not any(argument.is_context or argument.by_keyword for argument in arguments):
        return lambda inputs: predict(*inputs)

    def call(inputs: Sequence[Any]) -> Any:
        arrays = iter(inputs)
        values = [_context(name) if argument.is_context else next(arrays) for argument in arguments]
        pairs = list(zip(arguments, values, strict=True))
        by_name = {argument.name: value for argument, value in pairs if argument.by_keyword}
        return predict(*[value for argument, value in pairs if not argument.by_keyword], **by_name)

    return call


def _context(name: str) -> Context:
    """What is known of the running call; nothing in a process without an engine."""
    tag = running.get()
    return Context(name=name) if tag is None or tag.call is None else Context.of_call(tag.call, name=name)


def _splitter(cls: type) -> Callable[[Any], _Outputs]:
    """A function from what `predict` returns to the tuple of its outputs."""
    annotation = signature.output_type(cls)
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
    did, do = ("yielded", "yield") if signature.streams(cls) else ("returned", "return")
    return OutputError(
        f"{cls.__name__}.predict {did} {type(result).__name__}", f"{do} the {annotation.__name__} that it declares"
    )
