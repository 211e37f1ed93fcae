"""Whether the first axis of an ONNX graph is the batch: by names of axes, and by what follows for the outputs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from samovar.config.declared import BATCH
from samovar.runtimes.onnx_graph import Graph
from samovar.runtimes.tensors import FileTensor, is_batch_name

__all__ = ["Tensors", "with_batch"]

_TABLES = ("skl2onnx", "OnnxMLTools")  # convert models of tables: a first axis without a name is that of the rows
_INVENTED = {"tf2onnx": re.compile(r"unk__\d+")}  # names that tf2onnx gives where TensorFlow has None
_BY_RANGE = "DynamicQuantize"  # operators that scale by the least and the greatest number of the whole call
_ROWS = 31  # few, as constants of that length may be made; or as many more as nothing else has
_OTHERS = 256  # what most networks of images and of texts can take
_ALONE, _JOIN = (
    "calls run one at a time",
    "if rows do not depend on each other, write batch_axis = true in samovar.toml",
)

Shape = Sequence[int | str | None]
Shapes = Callable[[dict[str, int]], Mapping[str, Shape] | None]


@dataclass(frozen=True)
class Tensors:
    """What goes into a graph, and what comes out; `note` says why its calls run one at a time, where they might not."""

    inputs: list[FileTensor]
    outputs: list[FileTensor]
    note: str = ""


def with_batch(tensors: Tensors, graph: Graph, producer: str, shapes: Shapes) -> Tensors:
    """The tensors of a graph, their first axes called by one name if that is the batch and by none if not.

    `shapes` are those of the outputs for some lengths of named axes; None where the graph does not take these.
    """
    inputs, outputs = tensors.inputs, tensors.outputs
    firsts = [tensor.shape[0] if tensor.shape else 0 for tensor in inputs]
    if not inputs or any(isinstance(axis, int) for axis in firsts):
        return tensors
    if any(operator.startswith(_BY_RANGE) for operator in graph.operators):
        note = f"{_ALONE}, since it quantises by the range of all rows; batch_axis = true in samovar.toml joins them"
        return Tensors(_begun(inputs, -1), [_following(tensor, None) for tensor in outputs], note)
    name = _name(firsts, producer)
    if name is None:
        note = f'{_ALONE}, since the first axis is not called "batch"; {_JOIN}'
        return Tensors(inputs, [_following(tensor, None) for tensor in outputs], note)
    if producer in _TABLES:
        outputs = _begun(outputs, name)
    elif any(tensor.shape is None or tensor.shape[:1] != (name,) for tensor in outputs):
        outputs = _probed(tensors, graph, name, shapes)
    alone = next((tensor.name for tensor in outputs if tensor.shape is None or tensor.shape[:1] != (name,)), None)
    note = "" if alone is None else f'{_ALONE}, since output "{alone}" has not a row for each row of the inputs'
    return Tensors(_begun(inputs, name), outputs, note)


def _name(firsts: Sequence[int | str | None], producer: str) -> str | None:
    """What the batch axis is called, the same on every input; None if no name says that it is one."""
    invented = _INVENTED.get(producer)
    if producer in _TABLES and set(firsts) == {None}:
        return BATCH
    if invented is not None and all(invented.fullmatch(str(axis)) for axis in firsts):
        return BATCH
    return str(firsts[0]) if len(set(firsts)) == 1 and is_batch_name(firsts[0]) else None


def _begun(tensors: Sequence[FileTensor], first: int | str) -> list[FileTensor]:
    """The tensors with this first axis, where they have any."""
    return [
        replace(tensor, shape=(first, *tensor.shape[1:])) if tensor.shape else tensor  # scalars, and unknown ranks
        for tensor in tensors
    ]


def _probed(tensors: Tensors, graph: Graph, name: str, shapes: Shapes) -> list[FileTensor]:
    """The outputs, whose first axes are called so if they are as long as those of the inputs, whatever that is."""
    known = [axis for tensor in (*tensors.inputs, *tensors.outputs) for axis in tensor.shape or ()]
    rows = next(length for length in count(_ROWS) if length not in known)
    firsts = {str(tensor.shape[0]): rows for tensor in tensors.inputs if tensor.shape}
    others = {axis: _OTHERS for tensor in tensors.inputs for axis in tensor.shape or () if isinstance(axis, str)}
    found = dict(shapes({**others, **firsts}) or shapes(firsts) or {})
    found |= {output: (rows, len(classes)) for output, classes in graph.classes.items()}
    return [_following(tensor, name, found.get(tensor.name, ()), rows) for tensor in tensors.outputs]


def _following(tensor: FileTensor, name: str | None, found: Shape = (), rows: int = 0) -> FileTensor:
    """An output without the lengths that are not so: exporters write that of their example, and often 1.

    `found` is its shape for so many `rows`, empty where nothing is known. Its first axis gets the name of the batch,
    or none.
    """
    if not found:
        found = [None if axis == 1 and place == 0 else axis for place, axis in enumerate(tensor.shape or ())]
    if not found:
        return tensor
    said = tensor.shape if tensor.shape is not None and len(tensor.shape) == len(found) else (None,) * len(found)
    axes = [-1 if isinstance(axis, int) and axis != other else axis for axis, other in zip(said, found, strict=True)]
    if found[0] == rows and rows not in found[1:]:
        axes[0] = name
    elif isinstance(found[0], int) or axes[0] != name:
        axes[0] = axes[0] if isinstance(axes[0], int) else -1
    return replace(tensor, shape=tuple(axes))
