"""Runtime of folders of Diffusers, by torch: images of prompts, or of chance alone.

What stands in such a folder: https://huggingface.co/docs/diffusers/using-diffusers/loading
"""

import inspect as signatures
from pathlib import Path
from typing import Any

from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import json_start
from samovar.runtimes.files import FileModel, check_options, describe, imported, runtime_options
from samovar.runtimes.hubs import check_weights, go_offline, has_weights, json_of, text_list, weights_of
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.runtimes.torchmodel import DEVICE, device_of, use_threads
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("diffusers", "numpy", "torch")
ABOUT = About(
    "Diffusers pipelines",
    extra="diffusers",
    recognised_by="folder with model_index.json that has _class_name",
    signature_from="the arguments of the pipeline's class",
    safety="safetensors: safe; pickled weights: --trust; code in the folder is never run",
)

_INDEX = "model_index.json"
_CLASS = "_class_name"
_PICKLED = "*"
_PACKAGES = ("diffusers", "transformers")
_PROMPT, _NEGATIVE, _SEED, _IMAGE = "prompt", "negative_prompt", "seed", "image"
_ROWS = 4  # in one call, unless somebody says more: time and memory grow with each image
_DTYPES = ("float32", "bfloat16", "float16")
# Options, and the arguments of pipelines that they are; 0 leaves the size of an image to the pipeline.
_ARGUMENTS = {
    "steps": ("num_inference_steps", 50),
    "guidance": ("guidance_scale", 7.5),
    "height": ("height", 0),
    "width": ("width", 0),
}
_AGAIN = "fetch the folder again, or save it with save_pretrained"


def recognise(path: Path) -> Sure:
    """Folders with the index of a pipeline."""
    return Sure.CERTAIN if json_start(path / _INDEX, _CLASS) else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the pipeline of a folder. Raises TargetError, ConfigError, or UnsafeFormatError for pickles."""
    path = question.path
    kind, _ = _checked(question)
    arguments = _arguments(path, kind)
    options = runtime_options(question, {**DEVICE, "dtype": _DTYPES, **_defaults(arguments)})
    _check_sizes(path, options)
    inputs = [FileTensor(_SEED, Datatype.INT64, ("batch",))]
    if _PROMPT in arguments:
        names = [name for name in (_PROMPT, _NEGATIVE) if name in arguments]
        inputs = [*(FileTensor(name, Datatype.BYTES, ("batch",)) for name in names), *inputs]
    sizes = [options.get(side) or -1 for side in ("height", "width")]
    outputs = [FileTensor(_IMAGE, Datatype.UINT8, ("batch", *sizes, -1))]
    return [
        describe(
            question,
            "diffusers",
            signature_of(path.name, inputs, outputs, question.declared),
            {"max_batch_size": _ROWS, **question.declared.options},
            IMPORTS,
            read_from=f"the arguments of {kind.__name__}, which {_INDEX} names",
            runtime_options=options,
            **({"trusted": True} if question.declared.trust else {}),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load the parts of a pipeline. Raises TargetError, ConfigError or UnsafeFormatError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    trust = Declared(trust=spec["source"].get("trusted", False))
    kind, is_pickled = _checked(Question(path, name=spec["name"], version=spec["version"], declared=trust))
    use_threads(spec["options"]["threads"])
    options = spec["source"]["runtime_options"]
    device = device_of(path, options)
    pipeline = _pipeline(path, kind, is_pickled=is_pickled, dtype=options["dtype"]).to(device)
    settings = {argument: options[name] for name, (argument, _) in _ARGUMENTS.items() if options.get(name)}
    model = FileModel(Signature.from_json(spec), lambda inputs: _drawn(pipeline, inputs, settings))
    model.samples = list  # none: one image takes minutes where the model is a large one
    return model


def _drawn(pipeline: Any, inputs: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Each row has a generator of its own: its image does not depend on its neighbours."""
    import numpy as np
    import torch

    seeds = inputs[_SEED].tolist()
    chance = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    texts = {name: text_list(name, array) for name, array in inputs.items() if name != _SEED}
    rows: dict[str, Any] = texts or {"batch_size": len(seeds)}
    with torch.inference_mode():
        found = pipeline(**rows, **settings, generator=chance, output_type="np").images
    return {_IMAGE: (np.asarray(found) * 255).round().astype(np.uint8)}


def _checked(question: Question) -> tuple[Any, bool]:
    """The class of the pipeline, and whether some weights are pickles. Raises TargetError or UnsafeFormatError."""
    path = question.path
    index = json_of(path, _INDEX)
    parts = {
        name: value[0]
        for name, value in index.items()
        if name != _CLASS and isinstance(value, list) and len(value) == 2
    }
    pickled = False
    for part in parts:
        if has_weights(path / part, _PICKLED):
            files, is_pickled = weights_of(path / part, _PICKLED)
            check_weights(question, files, is_pickled=is_pickled)
            pickled |= is_pickled
    go_offline()
    diffusers = imported("diffusers", ABOUT)
    foreign = [
        name
        for name, library in parts.items()
        if library not in (None, *_PACKAGES) and not hasattr(diffusers.pipelines, str(library))
    ]
    name = index.get(_CLASS)
    if foreign or not isinstance(name, str):
        raise TargetError(
            f"{path.name} wants code of its own for {', '.join(foreign) or 'the pipeline'}",
            "write a Python class that loads the folder and calls its pipeline",
        )
    kind = getattr(diffusers, name, None)
    if kind is None:
        raise TargetError(
            f"{path.name} is a {name}, which diffusers {diffusers.__version__} does not have", "upgrade diffusers"
        )
    return kind, pickled


def _arguments(path: Path, kind: Any) -> dict[str, Any]:
    """The arguments of a pipeline with their defaults: what needs more than prompts is refused. Raises TargetError."""
    arguments = dict(signatures.signature(kind.__call__).parameters)
    needed = [name for name in ("image", "mask_image", "video", "audio", "strength") if name in arguments]
    if needed or not ({_PROMPT, "batch_size"} & set(arguments)) or "generator" not in arguments:
        raise TargetError(
            f"{path.name} is a {kind.__name__}, which wants more than a prompt: {', '.join(needed) or 'other inputs'}",
            "write a Python class that loads the folder and calls its pipeline",
        )
    return {name: argument.default for name, argument in arguments.items()}


def _defaults(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options that are arguments of this pipeline, with the pipeline's own defaults where it has some."""
    return {
        name: type(usual)(arguments[argument] or usual)
        for name, (argument, usual) in _ARGUMENTS.items()
        if argument in arguments
    }


def _check_sizes(path: Path, options: dict[str, Any]) -> None:
    for name in ("steps", "height", "width"):
        if options.get(name, 1) < (1 if name == "steps" else 0):
            raise ConfigError(f'runtime option "{name}" of {path.name} is {options[name]}', "it wants 1 or more")


def _pipeline(path: Path, kind: Any, *, is_pickled: bool, dtype: str) -> Any:
    """The pipeline in memory. Raises TargetError."""
    import torch

    imported("transformers", ABOUT).utils.logging.disable_progress_bar()
    imported("diffusers", ABOUT).utils.logging.disable_progress_bar()
    try:
        pipeline = kind.from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=None if is_pickled else True,
            torch_dtype=getattr(torch, dtype),
        )
    except Exception as error:
        raise TargetError(f"{path.name} cannot be loaded: {text_of(error)}", _AGAIN) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
