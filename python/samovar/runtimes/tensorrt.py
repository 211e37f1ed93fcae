"""Runtime of TensorRT engines, on a GPU of NVIDIA.

An engine is of the version of TensorRT and the kind of GPU that built it.
https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Core/Engine.html
"""

from pathlib import Path
from typing import Any

from samovar.errors import ConfigError, InvalidInputError, OutputError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "tensorrt")
ABOUT = About(
    "TensorRT engines",
    extra="tensorrt",
    recognised_by="suffix .plan or .engine",
    signature_from="the engine; a first axis of any length is the batch axis, the profile says how long",
    safety="code for the GPU; code for the processor is refused by TensorRT itself",
    tested="against the API alone: it wants a GPU, and the vendor's own package index",
)

_SUFFIXES = (".plan", ".engine")
_PROFILE = 0
_NOTE = (
    "it was built for batches of 1, and is called once for each request; build it with a profile (trtexec --maxShapes)"
)


def recognise(path: Path) -> Sure:
    """Files with a suffix of engines: the format is not documented."""
    return Sure.NAME if path.suffix.lower() in _SUFFIXES else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe an engine; it is loaded for that. Raises TargetError or ConfigError."""
    path = question.path
    options = runtime_options(question, {"device": 0})
    _use(_cuda(), options["device"])
    engine = _engine(path)
    inputs = [_tensor(engine, name) for name in _names(engine, is_input=True)]
    outputs = [_tensor(engine, name) for name in _names(engine, is_input=False)]
    signature = signature_of(path.name, inputs, outputs, question.declared)
    is_single = all(tensor.shape and tensor.shape[0] == 1 for tensor in (*inputs, *outputs))
    return [
        describe(
            question,
            "tensorrt",
            signature,
            _batches(question, engine, signature),
            IMPORTS,
            read_from="the engine",
            runtime_options=options,
            **({"note": _NOTE} if is_single else {}),
        )
    ]


def load(spec: dict[str, Any]) -> "TensorRtModel":
    """Load an engine on its GPU. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    cuda = _cuda()
    _use(cuda, spec["source"]["runtime_options"]["device"])
    return TensorRtModel(_engine(path), cuda, Signature.from_json(spec))


class TensorRtModel(FileModel):
    """One execution context, with memory of the GPU for each tensor that grows as it must."""

    def __init__(self, engine: Any, cuda: Any, signature: Signature) -> None:
        super().__init__(signature, self._answer)
        self._engine, self._cuda = engine, cuda
        self._context = engine.create_execution_context()
        self._stream = _checked(cuda, cuda.cudaStreamCreate())
        self._memory: dict[str, tuple[int, int]] = {}  # address and bytes by tensor

    def close(self) -> None:
        """Give back the memory of the GPU."""
        for address, _ in self._memory.values():
            _checked(self._cuda, self._cuda.cudaFree(address))
        self._memory.clear()
        _checked(self._cuda, self._cuda.cudaStreamDestroy(self._stream))

    def _answer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        kinds = self._cuda.cudaMemcpyKind
        for name, array in inputs.items():
            array = np.ascontiguousarray(array)  # noqa: PLW2901 - the copy goes on below its name
            if not self._context.set_input_shape(name, array.shape):
                raise InvalidInputError(
                    f'input "{name}" has the shape {list(array.shape)}, outside of the profile of the engine',
                    "send another, or build the engine with a wider profile",
                )
            self._copy(self._at(name, array.nbytes), array.ctypes.data, array.nbytes, kinds.cudaMemcpyHostToDevice)
        outputs = {name: self._output(name) for name in self._outputs}
        if not self._context.execute_async_v3(self._stream):
            raise RuntimeError("TensorRT could not run the engine; its log says why")
        for name, array in outputs.items():
            self._copy(array.ctypes.data, self._memory[name][0], array.nbytes, kinds.cudaMemcpyDeviceToHost)
        _checked(self._cuda, self._cuda.cudaStreamSynchronize(self._stream))
        return outputs

    def _output(self, name: str) -> Any:
        import numpy as np

        shape = tuple(self._context.get_tensor_shape(name))
        if any(length < 0 for length in shape):
            raise OutputError(
                f'the length of output "{name}" depends on what is in the inputs: {list(shape)}',
                "pad it to a fixed length in the network",
            )
        array = np.empty(shape, _trt().nptype(self._engine.get_tensor_dtype(name)))
        self._at(name, array.nbytes)
        return array

    def _at(self, name: str, size: int) -> int:
        """The address of a tensor, which has at least so many bytes."""
        address, has = self._memory.get(name, (0, 0))
        if not has or has < size:
            if has:
                _checked(self._cuda, self._cuda.cudaFree(address))
                del self._memory[name]
            address = int(_checked(self._cuda, self._cuda.cudaMalloc(max(size, 1))))
            self._memory[name] = address, max(size, 1)
            self._context.set_tensor_address(name, address)
        return address

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        _checked(self._cuda, self._cuda.cudaMemcpyAsync(target, source, size, kind, self._stream))


def _trt() -> Any:
    return imported("tensorrt", ABOUT)


def _cuda() -> Any:
    """CUDA's own functions, which return an error before what they give."""
    return imported("cuda.bindings.runtime", ABOUT)


def _checked(cuda: Any, result: tuple[Any, ...]) -> Any:
    """What a function of CUDA gives behind its error. Raises RuntimeError for that."""
    error, *values = result
    if error != cuda.cudaError_t.cudaSuccess:
        raise RuntimeError(f"CUDA: {error}")
    return values[0] if values else None


def _use(cuda: Any, device: int) -> None:
    try:
        _checked(cuda, cuda.cudaSetDevice(device))
    except RuntimeError as error:
        raise TargetError(f"GPU {device} cannot be used: {error}", "set the runtime option device") from None


def _engine(path: Path) -> Any:
    fault = foreign(path)
    if fault is not None:
        raise TargetError(f"{fault.message}, no TensorRT engine", fault.next_step)
    trt = _trt()
    try:
        engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
    except Exception as error:
        raise TargetError(f"TensorRT cannot load {path.name}: {text_of(error)}", "build the engine again") from error
    if engine is None:
        raise TargetError(
            f"TensorRT {trt.__version__} cannot load {path.name}",
            "build the engine again with this version, on a GPU of this kind",
        )
    return engine


def _names(engine: Any, *, is_input: bool) -> list[str]:
    mode = _trt().TensorIOMode.INPUT
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return [name for name in names if (engine.get_tensor_mode(name) == mode) == is_input]


def _tensor(engine: Any, name: str) -> FileTensor:
    """A tensor; only a first axis of any length can be the batch axis."""
    import numpy as np

    kind = engine.get_tensor_dtype(name)
    try:
        datatype = Datatype.of_numpy(np.dtype(_trt().nptype(kind)).name)
    except TypeError:  # bfloat16, and what has fewer bits than 8
        datatype = None
    if datatype is None:
        raise TargetError(f'"{name}" is {kind}, which cannot be sent', "build the engine with FP32 inputs and outputs")
    shape = tuple(engine.get_tensor_shape(name))
    first: tuple[int | str, ...] = ("batch" if shape[0] < 0 else shape[0],) if shape else ()
    return FileTensor(name, datatype, (*first, *shape[1:]))


def _batches(question: Question, engine: Any, signature: Signature) -> dict[str, Any]:
    """The options, where batches are no longer than the profile allows. Raises ConfigError for longer ones."""
    options = question.declared.options
    if not signature.batch_axis:
        return options
    most = min(engine.get_tensor_profile_shape(tensor.name, _PROFILE)[2][0] for tensor in signature.inputs)
    if options.get("max_batch_size", most) > most:
        raise ConfigError(
            f"max_batch_size = {options['max_batch_size']} is more than the {most} of {question.path.name}",
            "build the engine with a wider profile",
        )
    return {"max_batch_size": most, **options}
