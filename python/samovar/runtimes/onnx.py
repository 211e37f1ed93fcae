"""Runtime of ONNX files, by onnxruntime on the processor."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from samovar.errors import ConfigError, LoadError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes import onnx_saved as saved
from samovar.runtimes.contents import peek
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.onnx_batch import Tensors, with_batch
from samovar.runtimes.onnx_graph import FIRST_BYTE, Graph, read
from samovar.runtimes.tables import texts
from samovar.runtimes.tensors import FileTensor, fixed_batch, labels_in, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise", "tensors_of"]

IMPORTS = ("numpy", "onnxruntime")
ABOUT = About(
    "ONNX models",
    extra=None,
    recognised_by="suffix .onnx; the graph is read at the load",
    signature_from="the graph; an axis that is called batch, n or the like is the batch axis",
    safety="safe",
)

_CPU = "CPUExecutionProvider"
_LEVELS = {"all": "ENABLE_ALL", "extended": "ENABLE_EXTENDED", "basic": "ENABLE_BASIC", "disabled": "DISABLE_ALL"}
_OPTIONS: dict[str, Any] = {
    "optimization": tuple(_LEVELS),
    "save_optimized": None,
    "execution_mode": ("sequential", "parallel"),
    "providers": [_CPU],
    "share_weights": False,
}
_LABEL_KEYS = ("labels", "classes", "class_names", "names", "id2label")  # exporters have no common one
_LABEL_BYTES = 1_000_000
_DATATYPES = {f"tensor({datatype.numpy_name})": datatype for datatype in Datatype} | {
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}
_MAPS = ("seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))")  # of converters of classifiers
_BFLOAT16 = 16  # TensorProto.BFLOAT16
_FATAL = 4  # onnxruntime's severities; what is less comes as an exception too


def recognise(path: Path) -> Sure:
    """Files with the suffix .onnx: alone, the first byte of the format is a weak sign, and `inspect` reads the rest."""
    if path.suffix.lower() != ".onnx":
        return Sure.NO
    return Sure.CERTAIN if peek(path, 1) == FIRST_BYTE else Sure.NAME


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a file: names, datatypes, shapes and batch axis are its own. Raises TargetError."""
    path = question.path
    options = _checked_options(question)
    tensors, labels = tensors_of(path)
    _refuse_mixture(path, {tensor.datatype for tensor in (*tensors.inputs, *tensors.outputs)})
    signature = signature_of(path.name, tensors.inputs, tensors.outputs, question.declared)
    is_open = tensors.note and not signature.batch_axis and question.declared.batch_axis is None
    return [
        describe(
            question,
            "onnx",
            signature,
            question.declared.options,
            IMPORTS,
            read_from="the graph",
            runtime_options=options,
            **labels_in(signature, labels),
            **({"note": tensors.note} if is_open else {}),
            **fixed_batch(signature, 'export it with a first axis called "batch" (dynamic_axes of torch.onnx.export)'),
        )
    ]


def tensors_of(path: Path) -> tuple[Tensors, list[Any]]:
    """Inputs and outputs, and the labels of classes that the file has, if any. Raises TargetError."""
    graph = read(path)
    session = _session(path, threads=1)
    metadata = session.get_modelmeta()
    tensors = Tensors(
        [_tensor(path, "input", value, graph) for value in session.get_inputs()],
        [_tensor(path, "output", value, graph) for value in session.get_outputs()],
    )
    labels = _labels(metadata.custom_metadata_map) or next(iter(graph.classes.values()), [])
    return with_batch(tensors, graph, metadata.producer_name, partial(_shapes, path)), list(labels)


def _shapes(path: Path, lengths: dict[str, int]) -> dict[str, list[int | str | None]] | None:
    """The shapes of the outputs where axes have these lengths; None where they cannot have them."""
    try:
        return {value.name: value.shape for value in _session(path, threads=1, lengths=lengths).get_outputs()}
    except TargetError:
        return None


def load(spec: dict[str, Any]) -> "OnnxModel":
    """Load a version for the processor. Raises TargetError, ConfigError or LoadError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    options, threads = spec["source"]["runtime_options"], spec["options"]["threads"]
    file = path if options["save_optimized"] is None else _optimized(path, options)
    session = _session(file, threads=threads, options=options)
    _check_providers(path, session, options["providers"])
    signature = Signature.from_json(spec)
    for wanted, found in ((signature.inputs, session.get_inputs()), (signature.outputs, session.get_outputs())):
        if [tensor.name for tensor in wanted] != [value.name for value in found]:
            raise LoadError(f"{path} has other inputs or outputs than when it was inspected", "load the model again")
    return OnnxModel(session, signature)


class OnnxModel(FileModel):
    """One session of onnxruntime."""

    def __init__(self, session: Any, signature: Signature) -> None:
        self._session = session
        widths = {tensor.name: (tensor.dims or ())[-1:] for tensor in signature.outputs}
        self._maps = {value.name: widths[value.name] for value in session.get_outputs() if value.type in _MAPS}
        self._texts = [tensor.name for tensor in signature.inputs if tensor.datatype is Datatype.BYTES]
        has_bfloat = any(tensor.datatype is Datatype.BF16 for tensor in (*signature.inputs, *signature.outputs))
        super().__init__(signature, self._run_values if has_bfloat else self._run_arrays)

    def predict(self, inputs: Sequence[Any]) -> Any:
        """Run one call; the outputs in the order of the signature.

        Raises InvalidInputError, and RuntimeError for what onnxruntime says.
        """
        named = dict(zip(self._inputs, inputs, strict=True))
        for name in self._texts:
            named[name] = texts(name, named[name])
        try:
            return self._run(named)
        except Exception as error:  # noqa: BLE001 - onnxruntime's have no class in common
            raise RuntimeError(_plain(text_of(error))) from None

    def _run_arrays(self, inputs: dict[str, Any]) -> Any:
        found = self._session.run(self._outputs, inputs)
        if not self._maps:
            return found
        pairs = zip(self._outputs, found, strict=True)
        return [_table(value, *self._maps[name]) if name in self._maps else value for name, value in pairs]

    def _run_values(self, inputs: dict[str, Any]) -> list[Any]:
        """As `_run_arrays`, where there is bfloat16: only values of onnxruntime's own can carry it."""
        values = {name: _value(array) for name, array in inputs.items()}
        return [_array(value) for value in self._session.run_with_ort_values(self._outputs, values)]


def _session(
    path: Path,
    *,
    threads: int,
    options: dict[str, Any] | None = None,
    save: Path | None = None,
    lengths: Mapping[str, int] | None = None,
) -> Any:
    """A session; one without options only tells its tensors, and one that saves what it made of the graph ends there.

    `lengths` are those of named axes, for which what has a shape of its own is computed ahead.

    IO binding is not used: on the processor `run` takes arrays where they are anyway, and beside it a binding cost
    6.4 us a call, not 4.8, for a model of one operator, and nothing for one of 1 ms, whoever owned the outputs.
    """
    ort = _onnxruntime()
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _FATAL
    # Threads that spin between two operators save 3 to 5 % of a call; between two calls they would take the processor
    # from everybody else.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    if options is not None and options["share_weights"]:
        # Weights in files of their own are mapped, and now no operator keeps an arrangement of them for itself. One row
        # takes 1.0 to 1.1 of the time, and 16 rows 1.5 (matrices of 256) to 2 (of 1,024).
        settings.add_session_config_entry("session.disable_prepacking", "1")
    level = _LEVELS[options["optimization"] if options is not None else "basic" if lengths else "disabled"]
    for name, length in (lengths or {}).items():
        settings.add_free_dimension_override_by_name(name, length)
    if save is not None:
        settings.optimized_model_filepath = str(save)
        if level == _LEVELS["all"]:  # puts weights in the order of one kind of processor
            level = _LEVELS["extended"]
    settings.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
    if options is not None and options["execution_mode"] == "parallel":  # operators beside each other, one thread each
        settings.execution_mode = ort.ExecutionMode.ORT_PARALLEL
        settings.intra_op_num_threads, settings.inter_op_num_threads = 1, threads
    try:
        return ort.InferenceSession(str(path), settings, providers=[_CPU] if options is None else options["providers"])
    except Exception as error:  # noqa: BLE001 - as above
        raise _refusal(path, text_of(error), ort.__version__) from None  # whose traceback has no line of the user's


def _checked_options(question: Question) -> dict[str, Any]:
    """The runtime options. Raises ConfigError for a provider that there is not, or a file that cannot be written."""
    options, name = runtime_options(question, _OPTIONS), question.path.name
    ort = _onnxruntime()
    available = ort.get_available_providers()
    unknown = [provider for provider in options["providers"] if provider not in available]
    if unknown or not options["providers"]:
        raise ConfigError(
            f'runtime option "providers" of {name} has {repr(unknown[0]) if unknown else "none"}',
            f"onnxruntime {ort.__version__} here has {', '.join(available)}",
        )
    if options["save_optimized"] is not None:
        saved.check(question.path, options)
    return options


def _check_providers(path: Path, session: Any, wanted: list[str]) -> None:
    """Onnxruntime falls back to the processor in silence. Raises LoadError."""
    missing = [provider for provider in wanted if provider not in session.get_providers()]
    if missing:
        raise LoadError(
            f"onnxruntime cannot run {path.name} by {missing[0]}, whose libraries or device are missing",
            f"install what it needs, or leave it out of providers: {_CPU} is always there",
        )


def _optimized(path: Path, options: dict[str, Any]) -> Path:
    """The graph as onnxruntime optimised it, saved by this load where no earlier one did. Raises LoadError."""
    mark = saved.mark_of(path, options, _onnxruntime().__version__)
    return saved.written(path, options, mark, lambda part: _session(path, threads=1, options=options, save=part))


def _onnxruntime() -> Any:
    onnxruntime = imported("onnxruntime", ABOUT)
    onnxruntime.set_default_logger_severity(_FATAL)  # it warns of machines without a GPU
    return onnxruntime


def _labels(metadata: Mapping[str, str]) -> list[Any]:
    """The names of classes, by their places, where an exporter wrote any of the usual keys."""
    texts = (metadata[key] for key in _LABEL_KEYS if key in metadata)
    return next((labels for text in texts if (labels := _listed(text[:_LABEL_BYTES]))), [])


def _listed(text: str) -> list[Any]:
    """A list, or an object of places, as JSON or as Python prints it; otherwise what stands between commas or lines."""
    import ast
    import json

    found: Any = None
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    if isinstance(found, dict):
        by_place = {str(place): label for place, label in found.items()}
        found = [by_place.get(str(place)) for place in range(len(by_place))]
    elif not isinstance(found, list | tuple):
        found = [part.strip() for part in re.split(r"[,\n]", text.strip())]
    return list(found) if all(isinstance(label, str | int) for label in found) else []


def _tensor(path: Path, kind: str, value: Any, graph: Graph) -> FileTensor:
    if value.type in _MAPS and value.name in graph.classes:
        return FileTensor(value.name, Datatype.FP32, (None, len(graph.classes[value.name])))
    datatype = _DATATYPES.get(value.type)
    if datatype is None:
        raise TargetError(
            f'{kind} "{value.name}" of {path.name} is {value.type}, no tensor that can be sent', _cure(value)
        )
    # onnxruntime says [] of a scalar and of a tensor of any rank.
    is_known = value.shape != [] or value.name not in graph.shapeless
    shape = (*value.shape, graph.targets[value.name]) if _lacks_targets(value, graph) else tuple(value.shape)
    return FileTensor(value.name, datatype, shape if is_known else None)


def _lacks_targets(value: Any, graph: Graph) -> bool:
    return value.name in graph.targets and len(value.shape) == 1


def _refuse_mixture(path: Path, datatypes: set[Datatype | None]) -> None:
    """Onnxruntime takes bfloat16 in values of its own alone, and makes no such value of text."""
    if {Datatype.BF16, Datatype.BYTES} <= datatypes:
        raise TargetError(
            f"{path.name} has both bfloat16 and string tensors, which onnxruntime cannot take in one call",
            "cast to float32 in the model",
        )


def _cure(value: Any) -> str:
    if value.type.startswith("tensor("):
        return f"cast it to one of {', '.join(datatype.name for datatype in Datatype)} in the model"
    return "export the model with tensors alone: no sequence, map, optional or sparse tensor"


def _refusal(path: Path, text: str, version: str) -> TargetError:
    """Why onnxruntime does not take a file."""
    for pattern, fault, cure in _FAULTS:
        found = re.search(pattern, text)
        if found:
            words = {"file": path.name, "version": version, **found.groupdict()}
            return TargetError(fault.format(**words), cure.format(**words))
    return TargetError(
        f"onnxruntime {version} cannot load {path.name}: {_plain(text)}",
        "check the file with onnx.checker, or export it again",
    )


def _plain(text: str) -> str:
    """What onnxruntime says, without the numbers of its errors and the lines of its source."""
    text = re.sub(
        r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?(Exception during \w+: )?", "", text
    )
    text = re.sub(
        r"Non-zero status code returned while running (\w+) node. Name:'(.*?)' Status Message: ", r"\1 \2: ", text
    )
    return re.sub(r"/onnxruntime_src/\S+ .*?\) ", "", text).strip()


_NEWER = "upgrade onnxruntime (it is {version}), or export for an older opset"
_CUSTOM = (
    "{file} uses operators of {domain}, which onnxruntime does not have",
    "export the model without custom operators, and do what they do in a Python class that calls it",
)
_FAULTS = (
    (r"Opset (?P<opset>\d+) is under development", "{file} is of opset {opset}, newer than onnxruntime knows", _NEWER),
    (
        r"Unsupported model IR version: (?P<ir>\d+)",
        "{file} is of IR version {ir}, newer than onnxruntime knows",
        _NEWER,
    ),
    (r"No opset import for domain '(?P<domain>[^']*)'", *_CUSTOM),
    (r"(?P<domain>[\w.]+):\w+\(-?\d+\) is not a registered function", *_CUSTOM),
    (
        r"No Op registered for (?P<operator>\S+)",
        "{file} uses the operator {operator}, which onnxruntime {version} does not have",
        "upgrade onnxruntime, or export for an older opset and without custom operators",
    ),
    (
        r"Could not find an implementation for (?P<operator>\S+)\(",
        "{file} uses the operator {operator} with a datatype that onnxruntime {version} does not run on the processor",
        "export the model with float32",
    ),
    (
        r"Failed to construct locale with name: ?(?P<locale>[^:]+)",
        "{file} compares texts as {locale} does, a locale that this machine does not have",
        'install it (on Debian: apt-get install locales-all), or export with locale "C"',
    ),
    (
        r"MLDataType for: (?P<kind>tensor\(\w+\)) is not",
        "{file} has inputs or outputs of {kind}, no tensor that can be sent",
        "export the model with real numbers",
    ),
    (
        r"External initializer: (?P<weight>\S+) .* file_length: (?P<size>\d+)",
        "the file with the weight {weight} of {file} is cut off, or of another model: it has {size} bytes",
        "fetch or export both files again",
    ),
    (
        r"(External data path escapes model directory|Absolute path not allowed)",
        "{file} has weights in a file outside of its folder, which onnxruntime does not read",
        "put that file beside the model, and save it with onnx.save(..., save_as_external_data=True, location=NAME)",
    ),
    (
        r'External data path does not exist: "(?P<data>[^"]*)"',
        "the weights of {file} are in {data}, which does not exist",
        "put that file there: it belongs to the model",
    ),
)


def _table(rows: Sequence[Mapping[Any, float]], width: int) -> Any:
    """Maps as rows: in each the classes stand in order."""
    import numpy as np

    return np.array([list(row.values()) for row in rows], np.float32).reshape(len(rows), width)


def _value(array: Any) -> Any:
    from onnxruntime import OrtValue

    if array.dtype.name == "bfloat16":
        return OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
    return OrtValue.ortvalue_from_numpy(array)


def _array(value: Any) -> Any:
    if value.element_type() != _BFLOAT16:
        return value.numpy()
    import ctypes

    import ml_dtypes
    import numpy as np

    shape = value.shape()
    source = (ctypes.c_uint16 * int(np.prod(shape))).from_address(value.data_ptr())
    return np.array(source, np.uint16).view(ml_dtypes.bfloat16).reshape(shape)
