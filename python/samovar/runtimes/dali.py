"""Runtime of serialised pipelines of NVIDIA DALI: images and arrays in, tensors out.

https://docs.nvidia.com/deeplearning/dali/user-guide/docs/pipeline.html
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from samovar.errors import OutputError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, peek
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "nvidia")
ABOUT = About(
    "DALI pipelines",
    extra="dali",
    recognised_by="suffix .dali; the pipeline is read at the load",
    signature_from="inputs and outputs declared in samovar.toml, by the names of external_source",
    safety="safe",
    tested="against the API alone, unless nvidia-dali is installed: it is 1 GB",
)

_EXAMPLE = (
    'write in samovar.toml: inputs = [{ name = "raw", datatype = "BYTES", shape = ["batch"] }] with the names of '
    'fn.external_source, and outputs = [{ name = "image", datatype = "UINT8", shape = ["batch", -1, -1, 3] }] in order'
)
_DEVICES = ("cpu", "gpu")


def recognise(path: Path) -> Sure:
    """Files with the suffix .dali: what is in them is a protobuf message as others are."""
    return Sure.NAME if path.suffix.lower() == ".dali" else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a pipeline as it is declared. Raises TargetError or ConfigError."""
    path, declared = question.path, question.declared
    options = runtime_options(question, {"device": _DEVICES})
    pipeline = _pipeline(path, options["device"], batch=1, threads=1)
    if declared.inputs is None or declared.outputs is None:
        raise TargetError(f"{path.name} does not say what its inputs and outputs are", _EXAMPLE)
    if len(declared.outputs) != pipeline.num_outputs:
        raise TargetError(
            f"{path.name} has {pipeline.num_outputs} outputs, not the {len(declared.outputs)} that are declared",
            "declare each",
        )
    for tensor in declared.inputs:
        _check_input(path, pipeline, tensor.name)
    inputs = [FileTensor(tensor.name) for tensor in declared.inputs]
    outputs = [FileTensor(tensor.name) for tensor in declared.outputs]
    signature = signature_of(path.name, inputs, outputs, declared)
    if not signature.batch_axis:
        raise TargetError(
            f"{path.name} has inputs or outputs without a batch axis, and a pipeline runs batches",
            'begin the shape of each with "batch"',
        )
    return [
        describe(
            question, "dali", signature, declared.options, IMPORTS, read_from="samovar.toml", runtime_options=options
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Build a pipeline for batches of up to max_batch_size. Raises TargetError or ConfigError."""
    path, options = Path(spec["source"]["path"]), spec["options"]
    check_options(path, options)
    device = spec["source"]["runtime_options"]["device"]
    build = partial(_pipeline, path, device, batch=max(options["max_batch_size"], 1), threads=options["threads"])
    return FileModel(Signature.from_json(spec), _run(build, Signature.from_json(spec)))


def _pipeline(path: Path, device: str, *, batch: int, threads: int) -> Any:
    """A pipeline that begins a batch when it is asked for one: with batches ahead, answers would be of other calls."""
    fault = foreign(path)
    if fault is not None:
        raise TargetError(f"{fault.message}, no DALI pipeline", fault.next_step)
    if peek(path, 1) != b"\x08":  # the field num_threads, which each has and which comes first
        raise TargetError(f"{path.name} is no DALI pipeline", "save it with pipeline.serialize(filename=...)")
    dali = imported("nvidia.dali", ABOUT)
    try:
        pipeline = dali.Pipeline.deserialize(
            filename=str(path),
            batch_size=batch,
            num_threads=threads,
            device_id=0 if device == "gpu" else None,
            prefetch_queue_depth=1,
            exec_pipelined=False,
            exec_async=False,
        )
        pipeline.build()
    except Exception as error:
        raise TargetError(
            f"DALI cannot build {path.name}: {text_of(error).partition(chr(10))[0]}",
            'save it again; operators of the GPU want runtime_options = { device = "gpu" }',
        ) from error
    return pipeline


def _check_input(path: Path, pipeline: Any, name: str) -> None:
    try:
        pipeline.input_feed_count(name)
    except Exception:  # noqa: BLE001 - it is a RuntimeError or a KeyError, by version
        raise TargetError(
            f'{path.name} has no input "{name}"', "declare the names that fn.external_source was given"
        ) from None


def _run(build: Callable[[], Any], signature: Signature) -> Callable[[dict[str, Any]], list[Any]]:
    import numpy as np

    pipeline = build()

    names = [tensor.name for tensor in signature.outputs]
    encoded = {tensor.name for tensor in signature.inputs if tensor.datatype is Datatype.BYTES}

    def run(inputs: dict[str, Any]) -> list[Any]:
        nonlocal pipeline
        try:
            return outputs_of(inputs)
        except OutputError:
            raise
        except Exception:
            pipeline = build()  # after an error, an image that is none for instance, it runs no more
            raise

    def outputs_of(inputs: dict[str, Any]) -> list[Any]:
        for name, array in inputs.items():
            if name in encoded:  # each sample of another length
                pipeline.feed_input(name, [np.frombuffer(item, np.uint8) for item in array.ravel().tolist()])
            else:
                pipeline.feed_input(name, np.ascontiguousarray(array))
        return [array_of(name, found) for name, found in zip(names, pipeline.run(), strict=True)]

    def array_of(name: str, found: Any) -> Any:
        tensors = found.as_cpu() if hasattr(found, "as_cpu") else found
        if not tensors.is_dense_tensor():
            raise OutputError(
                f'output "{name}" has samples of different shapes', "resize or pad them to one in the pipeline"
            )
        return np.array(tensors.as_array())  # the pipeline writes the next batch over this one

    return run
