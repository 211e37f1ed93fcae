"""Methods as they are called: over HTTP by names, over tensor protocols by arrays in order."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from samovar.codecs.annotations import one_array, tensor
from samovar.context import Context, running
from samovar.errors import InvalidInputError, TargetError
from samovar.service.declaration import service_declaration_of
from samovar.service.endpoints import Endpoint, endpoints_of
from samovar.service.faults import told
from samovar.service.inputs import Inputs
from samovar.service.kinds import bare, record_fields
from samovar.service.refusals import InvalidFields
from samovar.service.results import Results
from samovar.service.threads import Threads
from samovar.types import Datatype, TensorSpec

__all__ = ["arguments", "tensor_method", "tensor_specs"]

_SCALARS = {int: Datatype.INT64, float: Datatype.FP64, bool: Datatype.BOOL, str: Datatype.BYTES}
Outputs = tuple[Any, ...]


def arguments(
    endpoint: Endpoint, values: Mapping[str, Any], context: Context | None
) -> tuple[list[Any], dict[str, Any]]:
    """What a method is called with: by position where it may be, else by name."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in endpoint.parameters:
        value = context if parameter.is_context else values[parameter.name]
        if parameter.by_keyword:
            named[parameter.name] = value
        else:
            positional.append(value)
    return positional, named


def tensor_specs(endpoint: Endpoint) -> tuple[list[TensorSpec], list[TensorSpec]] | None:
    """Inputs and outputs of a method that takes and gives tensors and scalars alone; None for any other."""
    if endpoint.streams or not endpoint.inputs:
        return None
    inputs = [_spec(parameter.name, parameter.annotation) for parameter in endpoint.inputs]
    outputs = [_spec(name, annotation) for name, annotation in _outputs(endpoint.result).items()]
    if None in inputs or None in outputs or not outputs:
        return None
    return [spec for spec in inputs if spec], [spec for spec in outputs if spec]


def tensor_method(
    cls: type, instance: Any, name: str, threads: int = 40
) -> Callable[[Sequence[Any]], Awaitable[Outputs]]:
    """The method called `name` as a coroutine function of arrays in the order of its inputs.

    It gives its outputs, in order: arrays of the declared types, of shape [1] for numbers and texts. It raises
    InvalidInputError for values that an annotation refuses, OutputError for a result that does not fit.
    """
    declaration = service_declaration_of(cls)
    assert declaration is not None
    found = [endpoint for endpoint in endpoints_of(cls, declaration.name) if endpoint.name == name]
    specs = tensor_specs(found[0]) if found else None
    if specs is None:
        raise TargetError(f'class {cls.__name__} has no method "{name}" of tensors', "load it again")
    return _TensorMethod(found[0], specs, getattr(instance, found[0].attribute), declaration.name, Threads(threads))


class _TensorMethod:
    """One such method of one object."""

    def __init__(
        self,
        endpoint: Endpoint,
        specs: tuple[list[TensorSpec], list[TensorSpec]],
        method: Callable[..., Any],
        service: str,
        threads: Threads,
    ) -> None:
        self._endpoint = endpoint
        self._inputs, self._outputs = specs
        self._method = method
        self._service = service
        self._threads = threads
        self._scalars = [one_array(parameter.annotation) is None for parameter in endpoint.inputs]
        self._fields = list(_outputs(endpoint.result)) if record_fields(endpoint.result) else None
        self._reader = Inputs(endpoint.place, "input", endpoint.name, endpoint.inputs)
        self._results = Results(f"the return value of {endpoint.place}", endpoint.result)

    async def __call__(self, arrays: Sequence[Any]) -> Outputs:
        values = {
            spec.name: _scalar(array) if is_scalar else array
            for spec, array, is_scalar in zip(self._inputs, arrays, self._scalars, strict=True)
        }
        try:
            checked = self._reader.of_values(values, {})
        except InvalidFields as error:
            raise InvalidInputError(told(error.details)) from None
        positional, named = arguments(self._endpoint, checked, self._context())
        if self._endpoint.is_async:
            result = await self._method(*positional, **named)
        else:
            result = await self._threads.run(self._method, *positional, **named)
        return self._split(self._results.checked(result))

    def _context(self) -> Context:
        tag = running.get()
        if tag is None or tag.call is None:
            return Context(name=self._service)
        return Context.of_call(tag.call, name=self._service)

    def _split(self, result: Any) -> Outputs:
        values = [result] if self._fields is None else [getattr(result, field) for field in self._fields]
        return tuple(_array(spec, value) for spec, value in zip(self._outputs, values, strict=True))


def _outputs(annotation: Any) -> dict[str, Any]:
    fields = record_fields(annotation)
    return {"output": annotation} if fields is None else fields


def _spec(name: str, annotation: Any) -> TensorSpec | None:
    plain = bare(annotation)
    if plain in _SCALARS:
        return TensorSpec(name, _SCALARS[plain], (1,))
    if one_array(plain) is None:
        return None
    datatype, axes = tensor(name, plain)
    return TensorSpec(name, datatype, tuple(axis if isinstance(axis, int) else -1 for axis in axes))


def _scalar(array: Any) -> Any:
    """The number or text in an array of shape [1]."""
    value = array.reshape(-1)[0]
    if not isinstance(value, bytes):
        return value.item()
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidInputError("a text is no UTF-8") from None


def _array(spec: TensorSpec, value: Any) -> Any:
    """What a result is as a tensor: itself, or an array of shape [1] with the number or text that it is."""
    import numpy as np

    assert spec.datatype is not None
    return value if isinstance(value, np.ndarray) else np.array([value], spec.datatype.numpy_name)
