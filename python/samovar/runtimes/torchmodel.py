"""What the runtimes of torch have in common: arrays to tensors and back, threads, devices, compilation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from samovar.errors import ConfigError, InvalidInputError, OutputError, TargetError, text_of
from samovar.runtimes.files import FileModel
from samovar.types import Datatype, Signature

__all__ = [
    "DEVICE",
    "TUNING",
    "TorchModel",
    "channels_last",
    "compiled",
    "datatype_of",
    "device_of",
    "refuse_texts",
    "tuned",
    "use_threads",
]

_IMAGES = 4  # axes of a batch of them
DEVICE = {"device": "cpu"}
TUNING: dict[str, Any] = {
    **DEVICE,
    "channels_last": False,
    "compile": False,
    "dtype": ("own", "float32", "float16", "bfloat16"),
    "quantize": ("none", "dynamic"),
}


class TorchModel(FileModel):
    """A module of torch: `call` takes tensors by the names of the inputs, and gives one, a sequence or a mapping.

    `copies_inputs` is for those that may write into their inputs, which are read-only memory. Tensors are sent to the
    device, and those that come out are fetched from wherever they are.
    """

    def __init__(self, call: Callable[..., Any], signature: Signature, *, copies_inputs: bool, device: Any) -> None:
        import numpy as np
        import torch

        self._np, self._torch = np, torch
        super().__init__(signature, lambda tensors: call(**tensors))
        self._device = device
        self._copies_inputs = copies_inputs and device.type == "cpu"

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        """Run one call; the outputs in the order of the signature.

        Raises OutputError for another number of outputs, and what the module raises.
        """
        pairs = zip(self._inputs, inputs, strict=True)
        named = {name: self._tensor(name, array).to(self._device) for name, array in pairs}
        with self._torch.inference_mode():
            result = self._run(named)
        return [self._array(name, tensor) for name, tensor in zip(self._outputs, self._split(result), strict=True)]

    def _tensor(self, name: str, array: Any) -> Any:
        """A tensor over the same bytes, or its own ones where the module may write to some tensor."""
        if array.dtype.kind == "O":
            raise InvalidInputError(f'input "{name}" is BYTES, of which torch has no tensors', "send numbers")
        array = array.copy() if self._copies_inputs else array
        if array.dtype.name == "bfloat16":
            return self._torch.from_dlpack(array.view(self._np.uint16)).view(self._torch.bfloat16)
        return self._torch.from_dlpack(array)

    def _array(self, name: str, tensor: Any) -> Any:
        if not isinstance(tensor, self._torch.Tensor):
            raise OutputError(f'output "{name}" is {type(tensor).__name__}, no tensor', "return tensors")
        if tensor.dtype is self._torch.bfloat16:
            import ml_dtypes

            return tensor.detach().contiguous().view(self._torch.uint16).numpy(force=True).view(ml_dtypes.bfloat16)
        return tensor.numpy(force=True)

    def _split(self, result: Any) -> Sequence[Any]:
        """One tensor for each output of the signature."""
        if isinstance(result, Mapping):
            missing = [name for name in self._outputs if name not in result]
            if missing:
                raise OutputError(
                    f'the module returned {", ".join(result) or "nothing"}, but no "{missing[0]}"',
                    "declare what it returns as outputs in samovar.toml",
                )
            return [result[name] for name in self._outputs]
        tensors = list(_leaves(result))
        if len(tensors) != len(self._outputs):
            raise OutputError(
                f"the module returned {len(tensors)} tensors for {len(self._outputs)} outputs",
                "declare what it returns as outputs in samovar.toml",
            )
        return tensors


def _leaves(result: Any) -> Iterator[Any]:
    """What stands in tuples, lists and dictionaries, whichever way they are nested; None is no output."""
    if isinstance(result, tuple | list | Mapping):
        for value in result.values() if isinstance(result, Mapping) else result:
            yield from _leaves(value)
    elif result is not None:
        yield result


def use_threads(threads: int) -> None:
    """Let this process compute with so many threads."""
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)  # possible once per process, before any work


def device_of(path: Path, options: Mapping[str, Any]) -> Any:
    """The device that the runtime options name. Raises ConfigError for one that is not there, or holds no numbers."""
    import torch

    name = options["device"]
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except Exception as error:
        reason = text_of(error).partition("\n")[0]
        kind = torch.accelerator.current_accelerator(check_available=True)
        others = [f"{kind.type}:{index}" for index in range(torch.accelerator.device_count())] if kind else []
        raise ConfigError(
            f'runtime option "device" of {path.name} is {name!r}, which torch {torch.__version__} cannot use: {reason}',
            f"it has {', '.join(['cpu', *others])}",
        ) from error
    return device


def datatype_of(dtype: Any) -> Datatype | None:
    """The datatype of a dtype of torch; None of one that cannot be sent."""
    return Datatype.of_numpy(str(dtype).removeprefix("torch."))


def refuse_texts(path: Path, signature: Signature) -> None:
    """Raise TargetError where BYTES is declared."""
    for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
        for tensor in tensors:
            if tensor.datatype is Datatype.BYTES:
                raise TargetError(
                    f'{kind} "{tensor.name}" of {path.name} is declared as BYTES', "torch has no text tensors"
                )


def compiled(call: Callable[..., Any]) -> Callable[..., Any]:
    """What torch.compile makes of it, for batches of any length: the first calls take seconds, or a minute."""
    import torch

    made: Callable[..., Any] = torch.compile(call, dynamic=True)
    return made


def channels_last(module: Any) -> Callable[..., Any]:
    """The module, and images on their way to it, with the channels as the last axis in memory."""
    import torch

    module = module.to(memory_format=torch.channels_last)

    def call(**inputs: Any) -> Any:
        laid = {
            name: tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == _IMAGES else tensor
            for name, tensor in inputs.items()
        }
        return module(**laid)

    return call


def tuned(path: Path, module: Any, options: dict[str, Any], device: Any) -> Callable[..., Any]:
    """A module for calls alone, on a device, with what TUNING offers. Raises TargetError for what it cannot be made."""
    import torch

    module = module.eval().requires_grad_(False)
    try:
        module = module.to(device)
        if options["dtype"] != "own":
            module = module.to(getattr(torch, options["dtype"]))
        if options["quantize"] == "dynamic":
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch.ao.quantization is to move to torchao
                module = torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)
        call: Callable[..., Any] = channels_last(module) if options["channels_last"] else module
    except Exception as error:
        raise TargetError(f"{path.name} cannot have these runtime options: {text_of(error)}", "remove them") from error
    if options["compile"]:
        call = compiled(call)
    return call if options["dtype"] == "own" else _cast(call, getattr(torch, options["dtype"]))


def _cast(call: Callable[..., Any], dtype: Any) -> Callable[..., Any]:
    """The call on numbers of another type: what comes out in it is FP32 again, for clients that know the signature."""
    import torch
    from torch.utils import _pytree as pytree

    def to_module(tensor: Any) -> Any:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    def to_client(value: Any) -> Any:
        return value.float() if isinstance(value, torch.Tensor) and value.dtype is dtype else value

    def run(**inputs: Any) -> Any:
        return pytree.tree_map(to_client, call(**{name: to_module(tensor) for name, tensor in inputs.items()}))

    return run
