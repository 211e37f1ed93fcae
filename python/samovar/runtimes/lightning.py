"""Runtime of Lightning checkpoints, whose class is in a Python file beside them.

    runtime_options = { module = "net.py:Net" }

in samovar.toml; `example_input_array` of the module says the rest, or inputs and outputs are declared as well.
https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samovar.config.declared import Declared
from samovar.errors import TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import zip_entry, zip_names
from samovar.runtimes.files import describe, imported, runtime_options
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.runtimes.torchcode import (
    CODE_OPTIONS,
    LINES,
    Place,
    check_code,
    checked_inputs,
    cure,
    is_named,
    loaded,
    parameters,
)
from samovar.runtimes.torchmodel import TUNING, TorchModel, datatype_of, refuse_texts
from samovar.runtimes.weights import saved

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "torch", "lightning")
ABOUT = About(
    "Lightning checkpoints",
    extra="lightning",
    recognised_by="zip archive whose data.pkl has pytorch-lightning_version",
    signature_from="example_input_array of the module, else samovar.toml",
    safety="the code of a folder is the user's own program; code beside a checkpoint, pickled objects: --trust",
)

_MARK = b"pytorch-lightning_version"
_SUFFIXES = (".ckpt",)
_OPTIONS = {**CODE_OPTIONS, **TUNING}
_BATCH = "batch"


def recognise(path: Path) -> Sure:
    """Archives of torch.save with the mark of Lightning, and folders whose samovar.toml names this runtime."""
    if path.is_dir():
        return Sure.CERTAIN if is_named("lightning", path, _SUFFIXES) else Sure.NO
    if "data.pkl" in zip_names(path) and _MARK in zip_entry(path, "data.pkl"):
        return Sure.CERTAIN
    return Sure.NAME if path.suffix.lower() == ".ckpt" else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a checkpoint. Raises TargetError, ConfigError, or UnsafeFormatError for code that is not trusted."""
    path = question.path
    declared = question.declared
    options = runtime_options(question, _OPTIONS)
    place = Place(path, options, ABOUT, _SUFFIXES)
    check_code(question, place)
    module = _module(place, is_trusted=bool(question.declared.trust)).eval()
    example = _example(module)
    if example is not None:
        inputs, outputs = _tensors(place, module, example, declared)
    elif declared.inputs and declared.outputs:
        inputs = [FileTensor(name) for name in checked_inputs(path, module, declared)]
        outputs = [FileTensor(tensor.name) for tensor in declared.outputs]
    else:
        raise TargetError(
            f"{path.name} does not say its inputs and outputs; forward takes {', '.join(parameters(module))}",
            f"set self.example_input_array in {place.name}, or {cure(place, 'lightning', LINES[1:])}",
        )
    signature = signature_of(path.name, inputs, outputs, declared)
    refuse_texts(path, signature)
    return [
        describe(
            question,
            "lightning",
            signature,
            declared.options,
            IMPORTS,
            read_from="samovar.toml" if example is None else f"example_input_array of {place.name}",
            runtime_options=options,
            **({"trusted": True} if question.declared.trust else {}),
        )
    ]


def load(spec: dict[str, Any]) -> TorchModel:
    """Load a checkpoint. Raises TargetError, ConfigError or UnsafeFormatError."""
    return loaded(spec, ABOUT, _SUFFIXES, lambda place, is_trusted: _module(place, is_trusted=is_trusted))


def _module(place: Place, *, is_trusted: bool) -> Any:
    """The module with its weights. Raises TargetError or UnsafeFormatError."""
    file = place.weights
    content = saved(file, ABOUT, is_trusted=is_trusted)
    if not isinstance(content, Mapping) or _MARK.decode() not in content:
        raise TargetError(f"{file.name} is no checkpoint of Lightning", "give what Trainer.save_checkpoint wrote")
    if place.code is None:
        arguments = ", ".join(content.get("hyper_parameters") or {}) or "none"
        raise TargetError(
            f"{file.name} does not say which class it is of; its hyper_parameters are {arguments}",
            cure(place, "lightning", LINES[:1]),
        )
    imported("lightning", ABOUT)
    made = place.maker()
    if not hasattr(made, "load_from_checkpoint"):
        raise TargetError(
            f"{place.name} of {place.code.name} is no LightningModule", "name the class of the checkpoint"
        )
    try:
        return made.load_from_checkpoint(
            file, map_location="cpu", weights_only=not is_trusted, **place.arguments
        ).eval()
    except Exception as error:
        raise TargetError(
            f"{file.name} cannot be loaded into {place.name}: {text_of(error)}",
            "name the class that it was saved from, and in runtime_options the arguments that hyper_parameters lack",
        ) from error


def _example(module: Any) -> dict[str, Any] | None:
    """The tensors of `example_input_array` by the names of forward's arguments; None where it has none of these."""
    import torch

    example = getattr(module, "example_input_array", None)
    if example is None:
        return None
    if isinstance(example, Mapping):
        named = dict(example)
    else:
        named = dict(
            zip(parameters(module), example if isinstance(example, tuple | list) else (example,), strict=False)
        )
    return named if named and all(isinstance(value, torch.Tensor) for value in named.values()) else None


def _tensors(
    place: Place, module: Any, example: dict[str, Any], declared: Declared
) -> tuple[list[FileTensor], list[FileTensor]]:
    """Inputs and outputs: what every row more of the example makes longer by one is the batch axis."""
    import torch

    once = _outputs(place, module, example)
    lengths = {len(tensor) if tensor.dim() else 0 for tensor in example.values()}
    has_batch = len(lengths) == 1 and lengths != {0}
    if has_batch:
        length = lengths.pop()
        try:
            twice = _outputs(place, module, {name: torch.cat([tensor, tensor]) for name, tensor in example.items()})
        except TargetError:
            has_batch = False
        else:
            has_batch = all(
                tensor.dim() and len(tensor) == length and tuple(twice[name].shape) == (2 * length, *tensor.shape[1:])
                for name, tensor in once.items()
            )

    def described(tensors: Mapping[str, Any], names: list[str]) -> list[FileTensor]:
        shapes = ((_BATCH, *tensor.shape[1:]) if has_batch else tuple(tensor.shape) for tensor in tensors.values())
        types = (datatype_of(tensor.dtype) for tensor in tensors.values())
        return [FileTensor(*one) for one in zip(names, types, shapes, strict=True)]

    names = list(once)
    is_unnamed = all(name.startswith("output") for name in names)
    if is_unnamed and declared.outputs is not None and len(declared.outputs) == len(names):
        names = [tensor.name for tensor in declared.outputs]
    return described(example, list(example)), described(once, names)


def _outputs(place: Place, module: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What it gives for an example: by its own names, or `output`, or `output_0` and so on."""
    import torch

    try:
        with torch.inference_mode():
            result = module(**{name: tensor.clone() for name, tensor in inputs.items()})
    except Exception as error:
        raise TargetError(
            f"{place.name} cannot compute its example_input_array: {text_of(error)}", "correct it"
        ) from error
    if isinstance(result, Mapping):
        named = dict(result)
    elif isinstance(result, tuple | list):
        named = {f"output_{index}": value for index, value in enumerate(result)}
    else:
        named = {"output": result}
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise TargetError(
                f'output "{name}" of {place.name} is {type(value).__name__}, no tensor', "return tensors from forward"
            )
    return named
