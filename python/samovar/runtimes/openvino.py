"""Runtime of OpenVINO IR, and of other files that OpenVINO reads, on the processor.

The properties of the processor: https://docs.openvino.ai/2026/openvino-workflow/running-inference/inference-devices-and-modes/cpu-device.html
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from samovar.config.declared import BATCH
from samovar.errors import ConfigError, LoadError, TargetError, text_of
from samovar.runtimes import About, Question, Sure, onnx
from samovar.runtimes.contents import foreign, peek
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.tensors import FileTensor, fixed_batch, labels_in, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "openvino")
ABOUT = About(
    "OpenVINO models",
    extra="openvino",
    recognised_by="XML that begins with <net; ONNX and others by runtime = 'openvino'",
    signature_from="the graph; a first axis of any length that outputs follow is the batch axis",
    safety="safe",
)

_OPTIONS: dict[str, Any] = {
    "performance_hint": ("latency", "throughput"),
    "streams": 0,  # as many as the hint wants
    "inference_precision": ("default", "f32", "bf16", "f16"),
}
_HEAD = 4096
_DATATYPES = {
    "f64": Datatype.FP64, "f32": Datatype.FP32, "f16": Datatype.FP16, "bf16": Datatype.BF16, "boolean": Datatype.BOOL,
    "i8": Datatype.INT8, "i16": Datatype.INT16, "i32": Datatype.INT32, "i64": Datatype.INT64,
    "u8": Datatype.UINT8, "u16": Datatype.UINT16, "u32": Datatype.UINT32, "u64": Datatype.UINT64,
}  # fmt: skip
_AGAIN = "fetch or save the file again"
_PROBE = 7919  # a prime that no axis of a model has
_DYNAMIC = "export the model with a dynamic first axis: ov.convert_model(model, input=[-1, ...])"
_LABELS = ["model_info", "labels"]  # where OpenVINO's Model API keeps them, with spaces between


def recognise(path: Path) -> Sure:
    """XML whose first element is `<net`; of other files with the suffix `inspect` says what they are."""
    if _is_ir(path):
        return Sure.CERTAIN
    return Sure.NAME if path.suffix.lower() == ".xml" else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a file: names, datatypes and shapes are its own. Raises TargetError or ConfigError."""
    path = question.path
    options = runtime_options(question, _OPTIONS)
    if options["streams"] < 0:
        raise ConfigError(f'runtime option "streams" of {path.name} is {options["streams"]}', "it wants 0 or more")
    if path.suffix.lower() == ".onnx":
        # OpenVINO forgets the names of axes, which say whether the first is the batch.
        tensors, labels = onnx.tensors_of(path)
        inputs, outputs = tensors.inputs, tensors.outputs
        read_from, bounds = "the ONNX graph", {}
        _check_names(path, _model(path), [tensor.name for tensor in inputs], [tensor.name for tensor in outputs])
    else:
        model = _model(path)
        has_batch = _has_batch_axis(model)
        inputs = [_tensor(path, "input", port, has_batch) for port in model.inputs]
        outputs = [_tensor(path, "output", port, has_batch) for port in model.outputs]
        bounds = _bound(model) if has_batch else {}
        labels = model.get_rt_info(_LABELS).astype(str).split() if model.has_rt_info(_LABELS) else []
        read_from = "the graph"
    _refuse_texts(path, [*inputs, *outputs])
    signature = signature_of(path.name, inputs, outputs, question.declared)
    return [
        describe(
            question,
            "openvino",
            signature,
            {**(bounds if signature.batch_axis else {}), **question.declared.options},
            IMPORTS,
            read_from=read_from,
            runtime_options=options,
            **labels_in(signature, labels),
            **fixed_batch(signature, _DYNAMIC),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a version for the processor. Raises TargetError, ConfigError or LoadError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    signature = Signature.from_json(spec)
    model = _model(path)
    _check_names(
        path, model, [tensor.name for tensor in signature.inputs], [tensor.name for tensor in signature.outputs]
    )
    options = spec["source"]["runtime_options"]
    properties = {
        "PERFORMANCE_HINT": options["performance_hint"].upper(),
        "INFERENCE_NUM_THREADS": spec["options"]["threads"],
        # Every process would pin its threads to the same processors: the first ones.
        "ENABLE_CPU_PINNING": False,
    }
    if options["streams"]:
        properties["NUM_STREAMS"] = options["streams"]
    if options["inference_precision"] != "default":
        properties["INFERENCE_PRECISION_HINT"] = options["inference_precision"]
    core = imported("openvino", ABOUT).Core()
    try:
        compiled = core.compile_model(model, "CPU", properties)
    except Exception as error:
        raise TargetError(
            f"OpenVINO cannot compile {path.name} for the processor: {_plain(error)}",
            "look at its operators and at runtime_options",
        ) from error
    return FileModel(signature, _run(compiled, signature))


def _run(compiled: Any, signature: Signature) -> Callable[[dict[str, Any]], Any]:
    """One call: its rows are spread over the streams, of which each runs one request at a time."""
    import numpy as np

    count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if signature.batch_axis else 1
    requests = [compiled.create_infer_request() for _ in range(count)]
    # In the order of the signature, which that of a file's ports may not be.
    ports = [_port(compiled.outputs, tensor.name) for tensor in signature.outputs]

    def results(request: Any) -> list[Any]:
        return [_array(request.results[port], port) for port in ports]

    def run(inputs: dict[str, Any]) -> Sequence[Any]:
        parts = min(count, *map(len, inputs.values())) if count > 1 else 1
        try:
            if parts <= 1:
                requests[0].infer(_values(inputs), share_inputs=True, share_outputs=True)  # `results` copies
                return results(requests[0])
            split = [np.array_split(array, parts) for array in inputs.values()]
            rows = [dict(zip(inputs, part, strict=True)) for part in zip(*split, strict=True)]
            _run_all(requests[:parts], list(map(_values, rows)))
        except RuntimeError as error:
            raise RuntimeError(_plain(error)) from None
        return [np.concatenate(found) for found in zip(*map(results, requests[:parts]), strict=True)]

    return run


def _run_all(requests: Sequence[Any], inputs: Sequence[dict[str, Any]]) -> None:
    """Run all at once, and end when none runs any more."""
    started = []
    try:
        for request, values in zip(requests, inputs, strict=True):
            request.start_async(values, share_inputs=True)
            started.append(request)
    finally:
        for request in started:
            request.wait()


def _is_ir(path: Path) -> bool:
    start = peek(path, _HEAD)
    return b"<net " in start and b"<layers" in start


def _model(path: Path) -> Any:
    """The graph; the weights beside it are mapped, not read. Raises TargetError."""
    openvino = imported("openvino", ABOUT)
    if path.suffix.lower() == ".xml" and not _is_ir(path):  # or each frontend of OpenVINO would try it, and complain
        fault = foreign(path) or TargetError(f"{path.name} is no XML", "give the .xml that ov.save_model wrote")
        raise TargetError(f"{fault.message}, no OpenVINO IR", fault.next_step)
    try:
        return openvino.Core().read_model(path)
    except Exception as error:
        raise _refusal(path, _plain(error), openvino.__version__) from error


def _refusal(path: Path, text: str, version: str) -> TargetError:
    """Why OpenVINO does not take a file."""
    weights = path.with_suffix(".bin")
    if "bin file" in text:
        if not weights.is_file():
            return TargetError(
                f"the weights of {path.name} are in {weights}, which does not exist",
                "put that file there: it belongs to the model",
            )
        return TargetError(
            f"{weights.name} is cut off, or belongs to another model than {path.name}: {text}",
            "fetch or save both files again",
        )
    cure = "leave out runtime = 'openvino': onnxruntime runs it" if path.suffix.lower() == ".onnx" else _AGAIN
    return TargetError(f"OpenVINO {version.partition('-')[0]} cannot read {path.name}: {text}", cure)


def _plain(error: Exception) -> str:
    """What OpenVINO says, without the lines of its source."""
    lines = [line.strip() for line in text_of(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(told or lines)


def _tensor(path: Path, kind: str, port: Any, has_batch: bool) -> FileTensor:
    element = port.element_type.to_string()
    if element not in _DATATYPES:
        raise TargetError(
            f'{kind} "{port.any_name}" of {path.name} is {element}, no tensor that can be sent',
            f"convert it to one of {', '.join(_DATATYPES)} in the model",
        )
    if port.partial_shape.rank.is_dynamic:
        return FileTensor(port.any_name, _DATATYPES[element])
    axes = [-1 if axis.is_dynamic else axis.get_length() for axis in port.partial_shape]
    return FileTensor(port.any_name, _DATATYPES[element], (BATCH, *axes[1:]) if has_batch else tuple(axes))


def _refuse_texts(path: Path, tensors: Sequence[FileTensor]) -> None:
    for tensor in tensors:
        if tensor.datatype is Datatype.BYTES:
            raise TargetError(
                f'"{tensor.name}" of {path.name} is text, which OpenVINO does not take as the protocol has it',
                "leave out runtime = 'openvino': onnxruntime does",
            )


def _has_batch_axis(model: Any) -> bool:
    """Whether every input begins with an axis of any length, and every output with the same and nowhere else.

    A sum, or the like, over that axis is of rows of different requests: dynamic quantisation has such.
    """
    shapes = [port.partial_shape for port in (*model.inputs, *model.outputs)]
    if not model.inputs or any(shape.rank.is_dynamic or not len(shape) or shape[0].is_static for shape in shapes):
        return False
    probe = model.clone()
    try:
        probe.reshape({port: _with_rows(port.partial_shape) for port in probe.inputs})
    except RuntimeError:
        return False  # a first axis that must fit another, or has a bound below
    found = [[axis.is_static and axis.get_length() == _PROBE for axis in port.partial_shape] for port in probe.outputs]
    return all(axes[:1] == [True] and not any(axes[1:]) for axes in found) and not any(
        node.get_type_name().startswith("Reduce") and _begins_with_rows(node.input(0)) and not _begins_with_rows(node)
        for node in probe.get_ordered_ops()
    )


def _begins_with_rows(port: Any) -> bool:
    shape = port.get_output_partial_shape(0) if hasattr(port, "get_output_partial_shape") else port.get_partial_shape()
    return shape.rank.is_static and len(shape) > 0 and shape[0].is_static and shape[0].get_length() == _PROBE


def _bound(model: Any) -> dict[str, int]:
    """The option that keeps batches within what the graph says of its first axes, if anything."""
    most = [port.partial_shape[0].get_max_length() for port in model.inputs]
    bounded = [length for length in most if length > 0]
    return {"max_batch_size": min(bounded)} if bounded else {}


def _with_rows(shape: Any) -> Any:
    shape[0] = _PROBE
    return shape


def _check_names(path: Path, model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raise LoadError where a graph has not exactly these inputs and outputs."""
    for ports, names in ((model.inputs, inputs), (model.outputs, outputs)):
        if len(ports) != len(names) or any(_port(ports, name) is None for name in names):
            found = ", ".join(sorted(port.any_name for port in ports)) or "none"
            raise LoadError(
                f"OpenVINO finds {found} in {path.name}, not {', '.join(names) or 'none'}",
                "load the model again; if its file has not changed, convert it with ov.convert_model",
            )


def _port(ports: Sequence[Any], name: str) -> Any:
    return next((port for port in ports if name in port.names), None)


def _values(inputs: dict[str, Any]) -> dict[str, Any]:
    """Arrays as they are, but scalars, which OpenVINO wants to write to; numpy has no bfloat16 that OpenVINO knows."""
    return {
        name: _bfloat(array) if array.dtype.name == "bfloat16" else array if array.shape else array.copy()
        for name, array in inputs.items()
    }


def _bfloat(array: Any) -> Any:
    import numpy as np
    import openvino

    return openvino.Tensor(np.ascontiguousarray(array).view(np.uint16), openvino.Shape(array.shape), openvino.Type.bf16)


def _array(found: Any, port: Any) -> Any:
    """A copy: the next call writes into the memory of this one's outputs."""
    if port.element_type.to_string() != "bf16":
        return found.copy()
    import ml_dtypes
    import numpy as np

    return found.copy().view(np.uint16).view(ml_dtypes.bfloat16)
