"""Runtime of functions that jax.export serialised, by XLA on the processor.

What such a file has: https://docs.jax.dev/en/latest/export/export.html
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samovar.config.declared import DeclaredTensor
from samovar.errors import InvalidInputError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, peek
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.padding import Run, padded
from samovar.runtimes.tensors import FileTensor, fixed_batch, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "jax")
ABOUT = About(
    "JAX functions",
    extra="jax",
    recognised_by="flatbuffer with StableHLO; suffix .jaxexport, or runtime = 'jax'",
    signature_from="arguments and result of the function; a symbol that is called b, n or batch is the batch axis",
    safety="safe",
)

_SUFFIX = ".jaxexport"
_HEAD = 4096
_MOST_ROOT = 256  # where the root of the flatbuffer is, which has 20 or so fields
_WIDE = ("int64", "uint64", "float64")
_MIXED = (
    "calls run one at a time, since the function reckons with all rows at once; if that is no more than a sum over an "
    "axis of time, for example, write batch_axis = true in samovar.toml"
)
_DYNAMIC = 'export it for jax.ShapeDtypeStruct(jax.export.symbolic_shape("batch, 4"), dtype), for instance'


def recognise(path: Path) -> Sure:
    """Flatbuffers, which have no number of their own here, with a program of StableHLO."""
    start = peek(path, _HEAD)
    if b"StableHLO_v" in start and int.from_bytes(start[:4], "little") < _MOST_ROOT:
        return Sure.CERTAIN
    return Sure.NAME if path.suffix.lower() == _SUFFIX else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a function: an input for each array among its arguments. Raises TargetError or ConfigError."""
    path, declared = question.path, question.declared
    runtime_options(question, {})
    exported = _exported(path)
    names = _names("input", exported.in_tree, declared.inputs), _names("output", exported.out_tree, declared.outputs)
    inputs = [_tensor(path, "input", name, aval) for name, aval in zip(names[0], exported.in_avals, strict=True)]
    outputs = [_tensor(path, "output", name, aval) for name, aval in zip(names[1], exported.out_avals, strict=True)]
    signature = signature_of(path.name, inputs, outputs, declared)
    is_mixed = signature.batch_axis and declared.batch_axis is None and _mixes_rows(path, exported)
    if is_mixed:
        signature = signature_of(path.name, inputs, outputs, replace(declared, batch_axis=False))
    return [
        describe(
            question,
            "jax",
            signature,
            declared.options,
            IMPORTS,
            read_from=f"the exported function {exported.fun_name}",
            **fixed_batch(signature, _DYNAMIC),
            **({"note": _MIXED} if is_mixed else {}),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a function; XLA compiles it for each size of batch, at the first call. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    # XLA asks nothing else how many threads it may have, and asks once: nothing before may start it, `inspect` neither.
    os.environ.setdefault("NPROC", str(spec["options"]["threads"]))
    exported = _exported(path)
    _check_program(path, exported)
    signature = Signature.from_json(spec)
    return FileModel(signature, _run(exported, signature))


def _run(exported: Any, signature: Signature) -> Run:
    """One call; a batch is filled up, as XLA compiles for each of its lengths."""
    import jax
    import numpy as np

    function = jax.jit(exported.call)
    names = [tensor.name for tensor in signature.outputs]

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        arguments, named = jax.tree.unflatten(exported.in_tree, list(inputs.values()))
        try:
            leaves = jax.tree.leaves(function(*arguments, **named))
        except ValueError as error:
            shapes = ", ".join(str(list(array.shape)) for array in inputs.values())
            raise InvalidInputError(
                f"the function does not take the shapes {shapes}: {text_of(error).splitlines()[0]}",
                "see the constraints that it was exported with; one on the batch wants max_batch_size in samovar.toml",
            ) from error
        return {name: np.asarray(found) for name, found in zip(names, leaves, strict=True)}

    return padded(run, signature)


def _exported(path: Path) -> Any:
    """The function of a file. Raises TargetError."""
    export = imported("jax.export", ABOUT)
    import jax

    if not jax.config.jax_platforms:
        jax.config.update("jax_platforms", "cpu")  # or it would look for other devices first
    try:
        exported = export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:
        fault = foreign(path)
        if fault is not None:
            raise TargetError(f"{fault.message}, no function of jax.export", fault.next_step) from None
        raise TargetError(
            f"jax {jax.__version__} cannot read {path.name}: {text_of(error)}",
            "fetch the file again, or write what jax.export.export(...)(...).serialize() gives",
        ) from error
    if "cpu" not in exported.platforms:
        raise TargetError(
            f"{path.name} was exported for {', '.join(exported.platforms)}, not for the processor",
            "export it with platforms=['cpu', ...]",
        )
    if exported.nr_devices != 1:
        raise TargetError(
            f"{path.name} was exported for {exported.nr_devices} devices at once", "export it without shardings"
        )
    if any(aval.dtype.name in _WIDE for aval in (*exported.in_avals, *exported.out_avals)):
        jax.config.update("jax_enable_x64", True)
    return exported


def _check_program(path: Path, exported: Any) -> None:
    """Raise TargetError for a damaged program: it is read when it is used, which needs lengths for all symbols."""
    import jax

    shapes = [tuple(axis if isinstance(axis, int) else 1 for axis in aval.shape) for aval in exported.in_avals]
    structs = [jax.ShapeDtypeStruct(shape, aval.dtype) for shape, aval in zip(shapes, exported.in_avals, strict=True)]
    arguments, named = jax.tree.unflatten(exported.in_tree, structs)
    try:
        jax.jit(exported.call).lower(*arguments, **named)
    except jax.errors.JaxRuntimeError as error:
        raise _damaged(path, error) from error
    except ValueError:
        pass  # a function that no axis of length 1 suits


def _mixes_rows(path: Path, exported: Any) -> bool:
    """Whether the program sums up, or the like, over a first axis of any length: what it fills up would count too.

    Raises TargetError for a damaged program.
    """
    import jax

    try:
        program = exported.mlir_module()
    except jax.errors.JaxRuntimeError as error:
        raise _damaged(path, error) from error
    return re.search(r"across dimensions = \[0[],][^:]*: \(tensor<\?x", program) is not None


def _damaged(path: Path, error: Exception) -> TargetError:
    return TargetError(f"{path.name} is damaged: {text_of(error)}", "fetch or export the file again")


def _names(kind: str, tree: Any, declared: Sequence[DeclaredTensor] | None) -> list[str]:
    """Names of the arrays: keys of dictionaries, or else `input_0` and so on, for which others may be declared."""
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(jax.tree.unflatten(tree, range(tree.num_leaves)))[0]
    found = [_keys(kind, path) for path, _ in leaves]
    numbered = [f"{kind}_{place}" for place in range(len(found))]
    if not any(found):
        wanted = [tensor.name for tensor in declared or ()]
        return wanted if len(wanted) == len(numbered) and not set(wanted) & set(numbered) else numbered
    is_own = [name != "" and found.count(name) == 1 for name in found]
    return [name if own else number for name, own, number in zip(found, is_own, numbered, strict=True)]


def _keys(kind: str, path: Sequence[Any]) -> str:
    """The keys on the way to an array, between points; "" where places alone lead to it."""
    import jax

    if kind == "input":  # a pair: arguments by place, whose place says nothing, and by name
        path = path[2:] if path[0].idx == 0 else path[1:]
    if not any(isinstance(key, jax.tree_util.DictKey) for key in path):
        return ""
    return ".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)


def _tensor(path: Path, kind: str, name: str, aval: Any) -> FileTensor:
    datatype = Datatype.of_numpy(aval.dtype.name)
    if datatype is None:
        raise TargetError(
            f'{kind} "{name}" of {path.name} is {aval.dtype.name}, no tensor that can be sent',
            "export a function that takes and returns plain arrays",
        )
    return FileTensor(name, datatype, tuple(map(_axis, aval.shape)))


def _axis(length: Any) -> int | str:
    """A length, a symbol, or -1 for what is reckoned from symbols."""
    if isinstance(length, int):
        return length
    return str(length) if str(length).isidentifier() else -1
