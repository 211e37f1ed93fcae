"""Runtime of TensorFlow's SavedModel folders, by TensorFlow on the processor.

Signatures stand in `saved_model.pb`: https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core/protobuf
(saved_model.proto, meta_graph.proto).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from samovar.errors import ConfigError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.padding import padded
from samovar.runtimes.protobuf import BrokenMessageError, fields, first
from samovar.runtimes.tensors import FileTensor, fixed_batch, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "check_compiled", "inspect", "load", "recognise", "started"]

IMPORTS = ("numpy", "tensorflow")
ABOUT = About(
    "TensorFlow SavedModels",
    extra="tensorflow",
    recognised_by="folder with saved_model.pb",
    signature_from="the signature serving_default, or another by the runtime option signature",
    safety="no Python is run; its graph may read and write files",
)

_FILE = "saved_model.pb"
_SERVING = "serving_default"
_SERVED = ["serve"]  # the tags of a graph for inference
_INITIALISER = "__saved_model_init_op"  # TensorFlow's own, no signature to call
_CURE = "save it again with tf.saved_model.save or model.export"
_DENSE = "take and return dense ones: tf.RaggedTensor.from_tensor and to_tensor are for the inside of a model"
# Field numbers: SavedModel, MetaGraphDef and its MetaInfoDef, SignatureDef, TensorInfo, TensorShapeProto, map entries.
_META_GRAPHS = 2
_META_INFO, _SIGNATURES = 1, 5
_TAGS = 4
_INPUTS, _OUTPUTS = 1, 2
_DTYPE, _SHAPE, _SPARSE, _COMPOSITE = 2, 3, 4, 5
_DIM, _UNKNOWN_RANK = 2, 3
_SIZE = 1
_KEY, _VALUE = 1, 2
_DATATYPES = {  # of types.proto
    1: Datatype.FP32,
    2: Datatype.FP64,
    3: Datatype.INT32,
    4: Datatype.UINT8,
    5: Datatype.INT16,
    6: Datatype.INT8,
    7: Datatype.BYTES,
    9: Datatype.INT64,
    10: Datatype.BOOL,
    14: Datatype.BF16,
    17: Datatype.UINT16,
    19: Datatype.FP16,
    22: Datatype.UINT32,
    23: Datatype.UINT64,
}
_UNSENT = {8: "complex64", 18: "complex128", 20: "a resource", 21: "a variant"}
_RAGGED = b"RaggedTensorSpec"


def recognise(path: Path) -> Sure:
    """Folders with saved_model.pb."""
    return Sure.CERTAIN if (path / _FILE).is_file() else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a signature of a folder, without TensorFlow. Raises TargetError or ConfigError."""
    path = question.path
    options = runtime_options(question, {"signature": None, "jit_compile": False})
    tags, signatures = _graph(path)
    name = options["signature"] = _chosen(question.path, signatures, options["signature"])
    inputs = list(_tensors(path, "input", signatures[name], _INPUTS))
    _refuse_ragged(path, inputs)
    outputs = list(_tensors(path, "output", signatures[name], _OUTPUTS))
    check_compiled(path, options, [*inputs, *outputs])
    signature = signature_of(path.name, inputs, outputs, question.declared)
    return [
        describe(
            question,
            "tensorflow",
            signature,
            question.declared.options,
            IMPORTS,
            read_from=f"the signature {name} in {_FILE}",
            tags=tags,
            runtime_options=options,
            **fixed_batch(signature, "save it with None as the length of the first axis"),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a signature of a folder for the processor. Raises TargetError or ConfigError."""
    path, source = Path(spec["source"]["path"]), spec["source"]
    check_options(path, spec["options"])
    tensorflow = started(ABOUT, spec["options"]["threads"])
    options = source["runtime_options"]
    try:
        loaded = tensorflow.saved_model.load(str(path), tags=source["tags"])
        loaded.signatures[options["signature"]]
    except Exception as error:
        fault = f"TensorFlow {tensorflow.__version__} cannot load {path.name}: {text_of(error)}"
        raise TargetError(fault, _CURE) from error
    signature = Signature.from_json(spec)
    dtypes = {
        tensor.name: "string" if tensor.datatype is Datatype.BYTES else tensor.datatype.numpy_name
        for tensor in signature.inputs
        if tensor.datatype is not None
    }

    def call(**tensors: Any) -> Any:
        return loaded.signatures[options["signature"]](**tensors)  # which would not keep the variables alive alone

    function = tensorflow.function(call, jit_compile=True) if options["jit_compile"] else call

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        tensors = {name: tensorflow.constant(array, dtypes[name]) for name, array in inputs.items()}
        return {name: tensor.numpy() for name, tensor in function(**tensors).items()}

    return FileModel(signature, padded(run, signature) if options["jit_compile"] else run)


def _chosen(path: Path, signatures: dict[str, memoryview], wanted: str | None) -> str:
    """The name of the signature to serve. Raises TargetError or ConfigError."""
    known = ", ".join(sorted(signatures)) or "none"
    if wanted is not None and wanted not in signatures:
        raise ConfigError(f'{path.name} has no signature "{wanted}"', f"it has {known}")
    if wanted is not None or _SERVING in signatures:
        return wanted or _SERVING
    if not signatures:
        raise TargetError(f"{path.name} has no signatures", f"{_CURE}, and with signatures=, as of model.call")
    if len(signatures) != 1:
        raise TargetError(
            f"{path.name} has no signature {_SERVING}: it has {known}",
            f'name one in samovar.toml: runtime_options = {{ signature = "..." }}; or {_CURE}',
        )
    return next(iter(signatures))


def check_compiled(path: Path, options: Mapping[str, Any], tensors: Sequence[FileTensor]) -> None:
    """Raise ConfigError where XLA is to compile text, at which it may end in a segmentation fault (TensorFlow 2.21)."""
    text = next((tensor.name for tensor in tensors if tensor.datatype is Datatype.BYTES), None)
    if options["jit_compile"] and text is not None:
        raise ConfigError(
            f'runtime option "jit_compile" of {path.name} is true, but "{text}" is text, which XLA does not compile',
            "leave it out",
        )


def started(about: About, threads: int) -> Any:
    """TensorFlow's module, with so many threads, without its messages. Raises TargetError where it is missing."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it tells standard error of each processor feature
    tensorflow = imported("tensorflow", about)
    tensorflow.get_logger().setLevel("ERROR")
    threading = tensorflow.config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # only before its first work: of a worker with several models, the first one says
        pass
    return tensorflow


def _graph(path: Path) -> tuple[list[str], dict[str, memoryview]]:
    """Tags of the graph to serve, and its signatures by name. Raises TargetError."""
    file = path / _FILE
    try:
        content = memoryview(file.read_bytes())
    except OSError as error:
        raise TargetError(f"{file} cannot be read: {error.strerror}", "look at its place and permissions") from error
    try:
        graphs = [graph for number, graph in fields(content) if number == _META_GRAPHS and not isinstance(graph, int)]
        found = sorted(((_tags(graph), graph) for graph in graphs), key=lambda pair: pair[0] != _SERVED)
        signatures = [
            (tags, {name: value for name, value in _entries(graph, _SIGNATURES) if name != _INITIALISER})
            for tags, graph in found[:1]
        ]
    except BrokenMessageError as broken:
        kind = f"is cut off: at least {broken.missing} bytes are missing" if broken.missing else "is no SavedModel"
        raise TargetError(f"{path.name}/{_FILE} {kind}", f"fetch the folder again, or {_CURE}") from None
    if not signatures:
        raise TargetError(f"{path.name}/{_FILE} is no SavedModel", f"fetch the folder again, or {_CURE}")
    return signatures[0]


def _tags(graph: memoryview) -> list[str]:
    info = first(graph, _META_INFO)
    tags = [] if info is None else [_text(tag) for number, tag in fields(info) if number == _TAGS]
    return sorted(tags)


def _entries(message: memoryview, number: int) -> Iterator[tuple[str, memoryview]]:
    """Key and value of each entry of a map of messages."""
    for found, entry in fields(message):
        if found == number and not isinstance(entry, int):
            yield _text(first(entry, _KEY) or b""), first(entry, _VALUE) or memoryview(b"")


def _text(value: memoryview | bytes | int) -> str:
    return "" if isinstance(value, int) else bytes(value).decode("utf-8", "replace")


def _tensors(path: Path, kind: str, signature: memoryview, number: int) -> Iterator[FileTensor]:
    """Its inputs or outputs, by name: a map has no order."""
    for name, info in sorted(_entries(signature, number)):
        types = [value for found, value in fields(info) if found == _DTYPE and isinstance(value, int)]
        datatype = _DATATYPES.get(types[-1]) if types else None
        place = f'{kind} "{name}" of {path.name} is'
        if any(found in (_SPARSE, _COMPOSITE) for found, _ in fields(info)):
            raise TargetError(f"{place} ragged or sparse, no tensor that can be sent", _DENSE)
        if datatype is None:
            raise TargetError(
                f"{place} {_UNSENT.get(types[-1], 'of another type') if types else 'of no type'}, "
                "no tensor that can be sent",
                f"cast it to one of {', '.join(known.name for known in Datatype)} in the model",
            )
        yield FileTensor(name, datatype, _shape(first(info, _SHAPE)))


def _refuse_ragged(path: Path, inputs: list[FileTensor]) -> None:
    """Refuse an input that is stored in parts: its values, and under its name with _1 where the rows of these end."""
    parts = {tensor.name: tensor for tensor in inputs}
    for name in parts:
        ends = parts.get(f"{name}_1")
        is_pair = ends is not None and ends.datatype is Datatype.INT64 and len(ends.shape or ()) == 1
        if is_pair and _RAGGED in (path / _FILE).read_bytes():
            raise TargetError(f'input "{name}" of {path.name} is ragged, no tensor that can be sent', _DENSE)


def _shape(shape: memoryview | None) -> tuple[int | str | None, ...] | None:
    """The axes; the first is the batch where it has any length, as everywhere in TensorFlow."""
    if shape is None or any(number == _UNKNOWN_RANK and value for number, value in fields(shape)):
        return None
    axes: list[int | str | None] = []
    for number, dim in fields(shape):
        if number == _DIM and not isinstance(dim, int):
            sizes = [value for found, value in fields(dim) if found == _SIZE and isinstance(value, int)]
            length = sizes[-1] if sizes else 0  # a zero is not written
            is_any = length >= 1 << 63  # -1
            axes.append(("batch" if not axes else -1) if is_any else length)
    return tuple(axes)
