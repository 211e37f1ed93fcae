"""Runtime of models that Keras saved: archives of Keras 3 and older HDF5 files, by TensorFlow or JAX on the processor.

TensorFlow runs them where it is installed, since that is what most were trained with. The files:
https://keras.io/guides/serialization_and_saving/
"""

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from samovar.config.settings import ModelConfig
from samovar.errors import TargetError, UnsafeFormatError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, peek, zip_names
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.padding import Run, padded
from samovar.runtimes.tensorflow import check_compiled, started
from samovar.runtimes.tensors import FileTensor, fixed_batch, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "keras")
ABOUT = About(
    "Keras models",
    extra="keras",
    recognised_by="zip archive with config.json and weights; HDF5 file with model_config",
    signature_from="inputs and outputs of the model",
    safety="safe, lambdas are refused; with --trust they run",
)

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ARCHIVE = {"metadata.json", "config.json"}
_SUFFIXES = (".h5", ".hdf5")
_EXPORT = "export it with model.export(folder), which needs no code of its own"
_HEAD = 1 << 16


def recognise(path: Path) -> Sure:
    """Zip archives with the files of Keras, and HDF5 files whose attributes have a model_config."""
    if zip_names(path) >= _ARCHIVE:
        return Sure.CERTAIN
    if peek(path, len(_HDF5)) == _HDF5:
        return Sure.LIKELY if _is_model(path) else Sure.NAME
    return Sure.NAME if path.suffix.lower() in (".keras", *_SUFFIXES) else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a file. Raises TargetError, ConfigError, or UnsafeFormatError for one with lambdas."""
    path = question.path
    options = runtime_options(question, {"backend": ("auto", "tensorflow", "jax"), "jit_compile": False})
    if options["backend"] == "auto":
        options["backend"] = "tensorflow" if find_spec("tensorflow") is not None else "jax"
    is_trusted = bool(question.declared.trust)
    # The worker that inspects becomes the first instance, and both backends make their threads once.
    threads = ModelConfig(**question.declared.options).to_engine(batch_axis=True)["threads"]
    keras = _keras(options["backend"], threads)
    model = _model(keras, path, question.name or path.stem, is_trusted=is_trusted)
    is_any = _takes_any_batch(keras, model)
    inputs = [_tensor(path, "input", tensor.name, tensor, is_any) for tensor in model.inputs]
    outputs = [
        _tensor(path, "output", name, tensor, is_any)
        for name, tensor in zip(_outputs(keras, model), model.outputs, strict=True)
    ]
    check_compiled(path, options, [*inputs, *outputs])
    signature = signature_of(path.name, inputs, outputs, question.declared)
    return [
        describe(
            question,
            "keras",
            signature,
            question.declared.options,
            ("numpy", options["backend"]),  # not keras, which would choose its backend by itself
            read_from=f"inputs and outputs of the {type(model).__name__} model",
            runtime_options=options,
            **fixed_batch(signature, "build it without batch_size, with None as the length of the first axis"),
            **({"trusted": True} if is_trusted else {}),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a model for the processor, by the backend that inspected it. Raises TargetError or ConfigError."""
    path, source = Path(spec["source"]["path"]), spec["source"]
    check_options(path, spec["options"])
    options = source["runtime_options"]
    keras = _keras(options["backend"], spec["options"]["threads"])
    model = _model(keras, path, spec["name"], is_trusted=source.get("trusted", False))
    signature = Signature.from_json(spec)
    if options["backend"] == "jax":
        run = padded(_jax_run(keras, model, signature), signature)
    elif options["jit_compile"]:
        run = padded(_tensorflow_run(keras, model, signature, jit_compile=True), signature)
    else:
        run = _tensorflow_run(keras, model, signature, jit_compile=False)
    return FileModel(signature, run)


def _tensorflow_run(keras: Any, model: Any, signature: Signature, *, jit_compile: bool) -> Run:
    """One graph for all lengths of batches, as `model.export` makes it."""
    import tensorflow as tf

    struct = _struct(model)
    first = [None] if signature.batch_axis else []
    specs = keras.tree.map_structure(lambda x: tf.TensorSpec([*first, *x.shape[len(first) :]], x.dtype, x.name), struct)
    names = [tensor.name for tensor in signature.outputs]
    dtypes = {tensor.name: tensor.dtype for tensor in model.inputs}

    def call(tensors: Any) -> Any:
        return keras.tree.flatten(model(tensors, training=False))

    function = tf.function(call, input_signature=[specs], jit_compile=jit_compile)
    stateful = [layer for layer in _layers(model) if getattr(layer, "stateful", False)]

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        for layer in stateful:  # what it remembers is of somebody else's call
            layer.reset_state()
        tensors = [tf.constant(array, dtypes[name]) for name, array in inputs.items()]
        found = function(keras.tree.pack_sequence_as(struct, tensors))
        return {name: tensor.numpy() for name, tensor in zip(names, found, strict=True)}

    return run


def _jax_run(keras: Any, model: Any, signature: Signature) -> Run:
    """One compilation for each length of batch: https://keras.io/guides/writing_a_custom_training_loop_in_jax/."""
    import jax
    import numpy as np

    struct = _struct(model)
    names = [tensor.name for tensor in signature.outputs]

    def call(trainable: Any, others: Any, arrays: Any) -> Any:
        return keras.tree.flatten(model.stateless_call(trainable, others, arrays, training=False)[0])

    function = jax.jit(call)
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        found = function(trainable, others, keras.tree.pack_sequence_as(struct, list(inputs.values())))
        return {name: np.asarray(array) for name, array in zip(names, found, strict=True)}

    return run


def _keras(backend: str, threads: int) -> Any:
    """Keras on a backend with so many threads. Raises TargetError where one is missing, or Keras has another."""
    os.environ["KERAS_BACKEND"] = backend  # read when it is imported, above its own file of settings
    if backend == "tensorflow":
        started(ABOUT, threads)
    else:
        os.environ.setdefault("NPROC", str(threads))  # of XLA's pools of threads, made at jax's first work
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        imported("jax", ABOUT)
    keras = imported("keras", ABOUT)
    if keras.backend.backend() != backend:
        raise TargetError(
            f"Keras runs on {keras.backend.backend()} in this worker, not on {backend}",
            f'set runtime_options = {{ backend = "{keras.backend.backend()}" }}, or worker = "own"',
        )
    return keras


def _model(keras: Any, path: Path, name: str, *, is_trusted: bool) -> Any:
    """The model of a file. Raises TargetError or UnsafeFormatError."""
    if path.suffix.lower() not in (".keras", *_SUFFIXES):
        kind = ".keras" if zip_names(path) >= _ARCHIVE else ".h5"
        raise TargetError(f"Keras knows its files by their suffix, and {path.name} has another", f"rename it to {kind}")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not is_trusted)
        model.inputs, model.outputs  # noqa: B018 - those of a Sequential that was never built raise
    except Exception as error:
        raise _refusal(path, name, text_of(error), keras.__version__) from error
    if not model.inputs or not model.outputs:
        raise TargetError(f"{path.name} has no fixed inputs and outputs", _EXPORT)
    return model


def _refusal(path: Path, name: str, text: str, version: str) -> TargetError:
    """Why Keras does not take a file."""
    if "safe_mode=False" in text:
        return UnsafeFormatError(
            f"unsafe_format: {path.name} holds a Python lambda, which can run any code",
            f"use a layer of Keras in place of it, or {_EXPORT}; or, if you trust who made it, "
            f"start with --trust {name}, or write trust = true in samovar.toml",
        )
    own = re.search(r"Could not locate (?:class|function) '([^']+)'|Unknown (?:layer|\w+ function): '([^']+)'", text)
    if own:
        return TargetError(f"{path.name} uses {own[1] or own[2]}, which is no part of Keras", _EXPORT)
    if "no defined inputs" in text:
        return TargetError(
            f"{path.name} was saved before it had inputs: {text}", "begin it with keras.Input, or call it"
        )
    if "requires TensorFlow" in text:
        return TargetError(f"{path.name} needs another backend: {text}", "run: pip install 'samovar[tensorflow]'")
    if "No model config" in text:
        return TargetError(f"{path.name} holds weights alone", "save the whole model with model.save")
    fault = foreign(path)
    if fault is not None and not any(kind in fault.message for kind in ("zip", "HDF5")):
        return TargetError(f"{fault.message}, no Keras model", fault.next_step)
    return TargetError(f"Keras {version} cannot load {path.name}: {text}", "fetch the file, or save the model again")


def _is_model(path: Path) -> bool:
    """Whether an HDF5 file has the architecture beside the weights: names of attributes stand before the arrays."""
    return b"model_config" in peek(path, _HEAD)


def _struct(model: Any) -> Any:
    """How the model wants its inputs: one, a list, or a dict; a Sequential has no such thing and takes one."""
    return getattr(model, "input", None) if getattr(model, "input", None) is not None else model.inputs[0]


def _outputs(keras: Any, model: Any) -> list[str]:
    """Names of the outputs: keys of a dict, else those of the layers that give them, else their numbers."""
    struct = getattr(model, "output", None)
    if isinstance(struct, dict):
        return [".".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(struct)]
    names = list(getattr(model, "output_names", None) or [model.layers[-1].name])
    return names if len(set(names)) == len(names) else [f"output_{index}" for index in range(len(names))]


def _takes_any_batch(keras: Any, model: Any) -> bool:
    """Whether the length of the first axes is that of the first data it saw: `fit` writes its batch_size into a model.

    Keras itself takes others then, unless a layer has a state for each row, or the graph has made use of the length.
    """
    firsts = {tensor.shape[:1] for tensor in model.inputs}
    if firsts & {(), (None,)} or len(firsts) != 1 or any(getattr(layer, "stateful", False) for layer in _layers(model)):
        return False
    free = keras.tree.map_structure(
        lambda x: keras.KerasTensor((None, *x.shape[1:]), x.dtype, name=x.name), _struct(model)
    )
    try:
        found = keras.tree.flatten(model.compute_output_spec(free))
    except Exception:  # noqa: BLE001 - of whatever layer needs the length
        return False
    return all(tensor.shape[:1] == (None,) for tensor in found)


def _layers(model: Any) -> Iterator[Any]:
    """The layers of a model, those of models in it too."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


def _tensor(path: Path, kind: str, name: str, tensor: Any, is_any: bool) -> FileTensor:
    datatype = Datatype.BYTES if tensor.dtype == "string" else Datatype.of_numpy(tensor.dtype)
    if datatype is None or tensor.sparse or getattr(tensor, "ragged", False):
        form = tensor.dtype if datatype is None else "sparse or ragged"
        raise TargetError(f'{kind} "{name}" of {path.name} is {form}, no tensor that can be sent', "use a dense one")
    axes = [-1 if axis is None else axis for axis in tensor.shape]
    return FileTensor(name, datatype, ("batch", *axes[1:]) if is_any or axes[:1] == [-1] else tuple(axes))
