"""The signature of a model class: what the annotations of its `predict` say."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_origin, get_type_hints

from samovar.codecs.annotations import EXAMPLE, one_array, tensor
from samovar.config.declared import BATCH
from samovar.errors import TargetError
from samovar.types import Datatype, Signature, TensorSpec

__all__ = ["is_async", "keyword_names", "output_fields", "predict_of", "return_type", "signature_of"]

_Axes = tuple[str, Datatype, list[int | str]]
_NO_DEFAULT = inspect.Parameter.empty


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
    function = inspect.unwrap(predict)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TargetError(f"{cls.__name__}.predict yields", "return the whole arrays; a model cannot stream")
    return predict


def is_async(cls: type) -> bool:
    """True if `predict` is a coroutine function."""
    return inspect.iscoroutinefunction(inspect.unwrap(predict_of(cls)))


def signature_of(cls: type) -> Signature:
    """The signature of a model class. Raises TargetError that names the parameter and the line to write."""
    predict = predict_of(cls)
    hints = _hints(cls, predict)
    inputs = [_input(cls, parameter, hints) for parameter in _parameters(cls, predict)]
    if not inputs:
        raise TargetError(f"{cls.__name__}.predict takes no inputs", f"give it a parameter, for instance x: {EXAMPLE}")
    outputs = _outputs(cls, hints.get("return", _NO_DEFAULT))
    batch_axis = _has_batch_axis(cls, [*inputs, *outputs])
    return Signature(_specs(inputs, batch_axis), _specs(outputs, batch_axis), batch_axis)


def keyword_names(cls: type) -> list[str]:
    """The parameters of `predict` that take an argument by keyword alone."""
    return [p.name for p in _parameters(cls, predict_of(cls)) if p.kind is inspect.Parameter.KEYWORD_ONLY]


def output_fields(annotation: Any) -> list[str] | None:
    """Field names of a NamedTuple or dataclass; None for any other annotation."""
    if not isinstance(annotation, type) or annotation is tuple or one_array(annotation) is not None:
        return None
    if dataclasses.is_dataclass(annotation):
        return [field.name for field in dataclasses.fields(annotation)]
    return list(getattr(annotation, "_fields", ())) if issubclass(annotation, tuple) else None


def return_type(cls: type) -> Any:
    """The annotation of what `predict` returns."""
    return _hints(cls, predict_of(cls)).get("return")


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
    if not isinstance(inspect.getattr_static(cls, "predict"), staticmethod):
        parameters = parameters[1:]
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
    place = f"the return value of {cls.__name__}.predict"
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
