"""From the tensors that a model's file has, and what samovar.toml declares of them, to the signature."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from samovar.config.declared import BATCH, MAX_RANK, Declared, DeclaredTensor
from samovar.errors import TargetError
from samovar.types import Datatype, Signature, TensorSpec

__all__ = ["FileTensor", "fixed_batch", "is_batch_name", "labels_in", "signature_of"]

_BATCH_NAMES = ("n", "b", "bs")
_DECLARED = "declared in samovar.toml"


@dataclass(frozen=True)
class FileTensor:
    """An input or output as its file has it, None where that does not say.

    An axis is a length; one of any length is its name, None if it has none, or -1 if it is known not to be the batch.
    """

    name: str
    datatype: Datatype | None = None
    shape: tuple[int | str | None, ...] | None = None


def signature_of(
    file: str, inputs: Sequence[FileTensor], outputs: Sequence[FileTensor], declared: Declared
) -> Signature:
    """The signature of a model file. Raises TargetError that names the tensor where a declaration contradicts it."""
    inputs = _with_declared(file, "input", inputs, declared.inputs)
    outputs = _with_declared(file, "output", outputs, declared.outputs)
    if declared.batch_axis is None:
        batch_axis = _has_batch_axis(inputs, outputs)
    else:
        batch_axis = declared.batch_axis
        if batch_axis:
            _check_batch_axis(file, inputs, outputs)
    return Signature(_specs(inputs, batch_axis), _specs(outputs, batch_axis), batch_axis)


def is_batch_name(axis: int | str | None) -> bool:
    """Whether an axis that is called so is the batch, where it is the first."""
    return isinstance(axis, str) and (BATCH in axis.lower() or axis.lower() in _BATCH_NAMES)


def fixed_batch(signature: Signature, cure: str) -> dict[str, str]:
    """The `note` of a description where the file takes one row at a time; `cure` says how to export it better."""
    is_fixed = not signature.batch_axis and bool(signature.inputs)
    if is_fixed and all(tensor.dims is not None and tensor.dims[:1] == (1,) for tensor in signature.inputs):
        return {"note": f"the file has a fixed batch of 1, so calls run one at a time; {cure}"}
    return {}


def labels_in(signature: Signature, labels: Sequence[Any]) -> dict[str, Any]:
    """The `labels` of a description: of the one output whose last axis has so many places."""
    fitting = [tensor.name for tensor in signature.outputs if tensor.dims and tensor.dims[-1] == len(labels)]
    return {"labels": {fitting[0]: list(labels)}} if labels and len(fitting) == 1 else {}


def _with_declared(
    file: str, kind: str, tensors: Sequence[FileTensor], declared: Sequence[DeclaredTensor] | None
) -> list[FileTensor]:
    """The tensors with what is declared of them."""
    found = {tensor.name: tensor for tensor in tensors}
    for declaration in declared or ():
        if declaration.name not in found:
            names = ", ".join(f'"{name}"' for name in found) or "none"
            raise TargetError(
                f'{kind} "{declaration.name}" is {_DECLARED}, but {file} has none of that name', f"it has {names}"
            )
        place = f'{kind} "{declaration.name}" of {file}'
        found[declaration.name] = _merged(place, found[declaration.name], declaration)
    for tensor in found.values():
        if tensor.shape is not None and len(tensor.shape) > MAX_RANK:
            raise TargetError(
                f'{kind} "{tensor.name}" of {file} has {len(tensor.shape)} axes', f"an array may have {MAX_RANK}"
            )
    return list(found.values())


def _merged(place: str, tensor: FileTensor, declared: DeclaredTensor) -> FileTensor:
    if declared.datatype is not None:
        if tensor.datatype not in (None, declared.datatype):
            got = tensor.datatype.name if tensor.datatype else ""
            raise TargetError(f"{place} is {got}, not the {declared.datatype.name} {_DECLARED}", "correct it there")
        tensor = replace(tensor, datatype=declared.datatype)
    if declared.shape is None:
        return tensor
    shape = tensor.shape if tensor.shape is not None else (-1,) * len(declared.shape)
    if len(shape) != len(declared.shape) or any(map(_contradicts, shape, declared.shape)):
        raise TargetError(
            f"{place} has the shape {_shown(shape)}, not the {_shown(declared.shape)} {_DECLARED}", "correct it there"
        )
    return replace(tensor, shape=tuple(map(_axis, shape, declared.shape)))


def _contradicts(axis: int | str | None, declared: int | str) -> bool:
    return isinstance(axis, int) and axis >= 0 and axis != declared


def _axis(axis: int | str | None, declared: int | str) -> int | str | None:
    """Any name but that of the batch axis says that it is another; -1 leaves the axis as it is in the file."""
    if isinstance(declared, int):
        return declared if declared >= 0 else axis
    return BATCH if declared == BATCH else -1


def _has_batch_axis(inputs: Sequence[FileTensor], outputs: Sequence[FileTensor]) -> bool:
    """Whether the names say it: one and the same on every input; exporters invent those of outputs."""
    firsts = {tensor.shape[0] if tensor.shape else None for tensor in inputs}
    name = firsts.pop() if len(firsts) == 1 else None
    if not is_batch_name(name):
        return False
    others = {axis for tensor in inputs for axis in (tensor.shape or ())[1:]} - {None}
    if name in others or any(name in (tensor.shape or ())[1:] for tensor in outputs):  # each row with every other
        return False
    return all(
        tensor.shape and not isinstance(tensor.shape[0], int) and tensor.shape[0] not in others for tensor in outputs
    )


def _check_batch_axis(file: str, inputs: Sequence[FileTensor], outputs: Sequence[FileTensor]) -> None:
    """Refuse `batch_axis = true` where a tensor has no first axis of any length."""
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            said = f'batch_axis = true, but {kind} "{tensor.name}" of {file}'
            if tensor.shape is None:
                raise TargetError(f"{said} has an unknown shape", f'declare it: shape = ["{BATCH}", ...]')
            if not tensor.shape:
                raise TargetError(f"{said} is a scalar", "remove batch_axis")
            if isinstance(tensor.shape[0], int) and tensor.shape[0] >= 0:
                raise TargetError(
                    f"{said} has the shape {_shown(tensor.shape)}, whose first axis has a fixed length",
                    "export the model with a dynamic first axis, or remove batch_axis",
                )
    if not inputs:
        raise TargetError(f"batch_axis = true, but {file} has no inputs", "remove batch_axis")


def _specs(tensors: Sequence[FileTensor], batch_axis: bool) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tensor.name, tensor.datatype, _dims(tensor, batch_axis)) for tensor in tensors)


def _dims(tensor: FileTensor, batch_axis: bool) -> tuple[int, ...] | None:
    if tensor.shape is None:
        return None
    return tuple(axis if isinstance(axis, int) else -1 for axis in tensor.shape[int(batch_axis) :])


def _shown(shape: Sequence[int | str | None]) -> str:
    return f"[{','.join('?' if axis is None else str(axis) for axis in shape)}]"
