"""The signature of a model class: what the annotations of its `predict` say."""

import dataclasses
import inspect
from collections import abc
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from samovar.codecs.annotations import EXAMPLE, one_array, tensor
from samovar.config.declared import BATCH
from samovar.context import Context
from samovar.errors import TargetError
from samovar.types import Datatype, Signature, TensorSpec

__all__ = ["Argument", "arguments", "is_async", "output_fields", "output_type", "predict_of", "signature_of", "streams"]

_Axes = tuple[str, Datatype, list[int | str]]
_NO_DEFAULT = inspect.Parameter.empty
_ITERATORS = (abc.Iterator, abc.Generator, abc.Iterable)
_ASYNC_ITERATORS = (abc.AsyncIterator, abc.AsyncGenerator, abc.AsyncIterable)


@dataclasses.dataclass(frozen=True)
class Argument:
    """A parameter of `predict`: an input, or the `samovar.Context` of the call."""

    name: str
    is_context: bool
    by_keyword: bool


def predict_of(cls: type) -> Callable[..., Any]:
    """The function behind `cls.predict`. Raises TargetError if there is none that can be served."""
    attribute = inspect.getattr_static(cls, "predict", None)
    predict = attribute.__func__ if isinstance(attribute, staticmethod | classmethod) else attribute
    if predict is None:
        raise TargetError(
            f"class {cls.__name__} has no predict method",
            f"add: def predict(self, x: {EXAMPLE}) -> {EXAMPLE}",
        )
    if not callable(predict):
        raise TargetError(f"{cls.__name__}.predict is {type(predict).__name__}, no method", "define it with def")
    return predict


def is_async(cls: type) -> bool:
    """True if `predict` is written with `async def`."""
    function = inspect.unwrap(predict_of(cls))
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def streams(cls: type) -> bool:
    """True if `predict` yields."""
    function = inspect.unwrap(predict_of(cls))
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def signature_of(cls: type) -> Signature:
    """The signature of a model class. Raises TargetError that names the parameter and the line to write.

    A predict that yields has no batch axis; its outputs are the parts joined along their first axis.
    """
    predict = predict_of(cls)
    hints = _hints(cls, predict)
    inputs = [_input(cls, parameter, hints) for parameter in _inputs(cls, predict, hints)]
    if not inputs:
        raise TargetError(f"{cls.__name__}.predict takes no inputs", f"give it a parameter, for instance x: {EXAMPLE}")
    outputs = _outputs(cls, output_type(cls))
    if streams(cls):
        joined = [(name, datatype, [-1, *axes[1:]]) for name, datatype, axes in outputs]
        return Signature(_specs(inputs, batch_axis=False), _specs(joined, batch_axis=False), batch_axis=False)
    batch_axis = _has_batch_axis(cls, [*inputs, *outputs])
    return Signature(_specs(inputs, batch_axis), _specs(outputs, batch_axis), batch_axis)


def arguments(cls: type) -> list[Argument]:
    """What `predict` is called with, in its order."""
    predict = predict_of(cls)
    hints = _hints(cls, predict)
    return [
        Argument(parameter.name, _is_context(parameter, hints), parameter.kind is inspect.Parameter.KEYWORD_ONLY)
        for parameter in _parameters(cls, predict)
    ]


def output_fields(annotation: Any) -> list[str] | None:
    """Field names of a NamedTuple or dataclass; None for any other annotation."""
    if not isinstance(annotation, type) or annotation is tuple or one_array(annotation) is not None:
        return None
    if dataclasses.is_dataclass(annotation):
        return [field.name for field in dataclasses.fields(annotation)]
    return list(getattr(annotation, "_fields", ())) if issubclass(annotation, tuple) else None


def output_type(cls: type) -> Any:
    """The annotation of what `predict` returns or, part by part, yields. Raises TargetError."""
    annotation = _hints(cls, predict_of(cls)).get("return", _NO_DEFAULT)
    origin = get_origin(annotation) or annotation
    if not streams(cls):
        if origin in _ITERATORS + _ASYNC_ITERATORS:
            raise TargetError(
                f"{cls.__name__}.predict is annotated to return an iterator, but does not yield",
                "yield the parts in it, or return the whole arrays",
            )
        return annotation
    kinds, example = (_ASYNC_ITERATORS, "AsyncIterator") if is_async(cls) else (_ITERATORS, "Iterator")
    if origin not in kinds or not get_args(annotation):
        raise TargetError(
            f"{cls.__name__}.predict yields, but its return annotation is no {example} of parts",
            f"write for instance -> {example}[{EXAMPLE}]",
        )
    return get_args(annotation)[0]


def _hints(owner: type, annotated: Any) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(annotated), include_extras=True)
    except Exception as error:
        raise TargetError(
            f"the annotations of {owner.__name__} cannot be evaluated: {error}",
            "import what they name at run time, not under TYPE_CHECKING",
        ) from error


def _parameters(cls: type, predict: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(predict).parameters.values())
    return parameters if isinstance(inspect.getattr_static(cls, "predict"), staticmethod) else parameters[1:]


def _is_context(parameter: inspect.Parameter, hints: dict[str, Any]) -> bool:
    return hints.get(parameter.name) is Context


def _inputs(cls: type, predict: Callable[..., Any], hints: dict[str, Any]) -> list[inspect.Parameter]:
    parameters = [p for p in _parameters(cls, predict) if not _is_context(p, hints)]
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise TargetError(
                f"{cls.__name__}.predict takes {str(parameter).partition(':')[0]}",
                "name each input as a parameter of its own",
            )
        if parameter.default is not _NO_DEFAULT:
            raise TargetError(
                f'parameter "{parameter.name}" of {cls.__name__}.predict has a default, but every input is sent with a '
                "request",
                "remove the default, or set the value in load",
            )
    return parameters


def _input(cls: type, parameter: inspect.Parameter, hints: dict[str, Any]) -> _Axes:
    place = f'parameter "{parameter.name}" of {cls.__name__}.predict'
    if parameter.name not in hints:
        raise TargetError(f"{place} has no annotation", f"write for instance {parameter.name}: {EXAMPLE}")
    return (parameter.name, *tensor(place, hints[parameter.name]))


def _outputs(cls: type, annotation: Any) -> list[_Axes]:
    place = f"what {cls.__name__}.predict yields" if streams(cls) else f"the return value of {cls.__name__}.predict"
    if annotation is _NO_DEFAULT or annotation is type(None):
        raise TargetError(f"{place} has no annotation", f"write for instance -> {EXAMPLE}")
    names = output_fields(annotation)
    if names is None:
        if get_origin(annotation) in (tuple, list, dict) or annotation in (tuple, list, dict):
            shown = annotation.__name__ if isinstance(annotation, type) else annotation
            raise TargetError(
                f"{place} is {shown}, which names no outputs",
                "return a NamedTuple or dataclass whose fields are the outputs",
            )
        return [("output", *tensor(place, annotation))]
    if not names:
        raise TargetError(f"{place} is {annotation.__name__}, which has no annotated fields", "give it one per output")
    hints = _hints(annotation, annotation)
    return [(name, *tensor(f'field "{name}" of {annotation.__name__}', hints.get(name, Any))) for name in names]


def _has_batch_axis(cls: type, tensors: Sequence[_Axes]) -> bool:
    without = [f'"{name}"' for name, _, axes in tensors if axes[:1] != [BATCH]]
    if without and len(without) < len(tensors):
        raise TargetError(
            f"{cls.__name__}.predict has a batch axis, but {', '.join(without)} has none",
            'make "batch" the first axis of every input and output, or of none',
        )
    return not without


def _specs(tensors: Sequence[_Axes], batch_axis: bool) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, datatype, tuple(axis if isinstance(axis, int) else -1 for axis in axes[int(batch_axis) :]))
        for name, datatype, axes in tensors
    )
