"""Runtime of folders that `save_pretrained` of Transformers writes, by torch.

Files and their meaning: https://huggingface.co/docs/transformers/main_classes/configuration
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samovar.config.declared import Declared
from samovar.errors import TargetError, text_of
from samovar.runtimes import About, LoadedModel, Question, Sure
from samovar.runtimes.contents import json_start
from samovar.runtimes.files import check_options, check_trust, describe, imported, runtime_options
from samovar.runtimes.hubs import check_weights, go_offline, has_weights, json_of, weights_of
from samovar.runtimes.tensors import signature_of
from samovar.runtimes.torchmodel import DEVICE, device_of, use_threads
from samovar.runtimes.transformers.tasks import TASKS, Parts, Task, task_of
from samovar.types import Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "torch", "transformers")
ABOUT = About(
    "Transformers models",
    extra="transformers",
    recognised_by="folder with config.json that has model_type, and weights",
    signature_from="the task that the architecture in config.json is for, and its labels",
    safety="safetensors: safe; pickled weights and code in the folder: --trust",
)

_PICKLED = "pytorch_model*"
_CONFIG_BYTES = 8 << 20  # labels by the ten thousand stand before model_type
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_OTHERS = ("modules.json", "model_index.json")  # Sentence Transformers and Diffusers have such folders inside
_ADAPTER = "adapter_config.json"
_CODE = "auto_map"
_CODE_WANTED = "trust_remote_code"
_PROCESSORS = {
    "AutoTokenizer": ("tokenizer", "tokenizer.json", "tokenizer"),
    "AutoImageProcessor": ("image processor", "preprocessor_config.json", "image_processor"),
}
_AGAIN = "fetch the folder again, or save it with save_pretrained"


@dataclass(frozen=True)
class _Folder:
    """What is known of a folder without its weights."""

    path: Path
    config: Any
    has_code: bool
    """Code beside the weights is wanted, and trusted."""
    is_pickled: bool


def recognise(path: Path) -> Sure:
    """Folders with a config.json that names the type of its model."""
    if json_start(path / _ADAPTER, "peft_type"):
        return Sure.LIKELY
    config = path / "config.json"
    if not config.is_file() or any((path / name).exists() for name in _OTHERS):
        return Sure.NO
    if json_start(config, "model_type", size=_CONFIG_BYTES):
        return Sure.CERTAIN if has_weights(path, _PICKLED) else Sure.LIKELY
    return Sure.LIKELY if json_start(config, "architectures") else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a folder. Raises TargetError, ConfigError, or UnsafeFormatError for code or pickles."""
    folder = _folder(question)
    name, task = task_of(question, folder.config)
    options = runtime_options(question, {"task": None, **DEVICE, "dtype": _DTYPES, **task.options(question.path)})
    options["task"] = name
    parts = Parts(folder.path, folder.config, options)
    inputs, outputs, labels = task.tensors(parts)
    signature = signature_of(question.path.name, inputs, outputs, question.declared)
    described = describe(
        question,
        "transformers",
        signature,
        question.declared.options,
        IMPORTS,
        read_from=f"config.json: {', '.join(folder.config.architectures or [folder.config.model_type])}, for {name}",
        runtime_options=options,
        **({"labels": labels} if labels else {}),
        **({"trusted": True} if question.declared.trust else {}),
    )
    return [{**described, "streams": bool(options.get("stream"))}]


def load(spec: dict[str, Any]) -> LoadedModel:
    """Load the weights of a folder. Raises TargetError, ConfigError or UnsafeFormatError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    trust = Declared(trust=spec["source"].get("trusted", False))
    folder = _folder(Question(path, name=spec["name"], version=spec["version"], declared=trust))
    options = spec["source"]["runtime_options"]
    task = TASKS[options["task"]]
    use_threads(spec["options"]["threads"])
    return task.load(_loaded(folder, task, options), Signature.from_json(spec))


def _folder(question: Question) -> _Folder:
    """Look at everything but the weights themselves, which transformers is the one to read."""
    path = question.path
    settings = json_of(path, "config.json")
    base = json_of(path, _ADAPTER).get("base_model_name_or_path")
    if base is not None:
        raise TargetError(
            f"{path.name} is an adapter (peft) for {base}, no whole model",
            "merge both: AutoPeftModel.from_pretrained(...).merge_and_unload().save_pretrained(...)",
        )
    if "model_type" not in settings:
        raise TargetError(f"{path.name} has no config.json with a model_type", _AGAIN)
    files, is_pickled = weights_of(path, _PICKLED)
    check_weights(question, files, is_pickled=is_pickled)
    go_offline()
    transformers = imported("transformers", ABOUT)
    transformers.utils.logging.disable_progress_bar()
    is_known = settings["model_type"] in transformers.CONFIG_MAPPING
    if not is_known and _CODE not in settings:
        raise TargetError(
            f"{path.name} is of the type {settings['model_type']!r}, which transformers {transformers.__version__} "
            "does not know",
            "upgrade transformers",
        )
    if not is_known:
        check_trust(question, "a folder whose model is code beside its weights", "use an architecture of transformers")
    has_code = bool(question.declared.trust) and _CODE in settings
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=has_code)
    except Exception as error:
        raise TargetError(f"config.json in {path.name} cannot be read: {text_of(error)}", _AGAIN) from error
    return _Folder(path, config, has_code, is_pickled)


def _loaded(folder: _Folder, task: Task, options: dict[str, Any]) -> Parts:
    """The model and what prepares its inputs. Raises TargetError or UnsafeFormatError."""
    import torch
    import transformers

    device = device_of(folder.path, options)
    settings = {"local_files_only": True, "trust_remote_code": folder.has_code}
    dtype = options["dtype"] if options["dtype"] == "auto" else getattr(torch, options["dtype"])
    processor = _processor(folder, task, settings)
    try:
        model, found = getattr(transformers, task.model).from_pretrained(
            folder.path,
            config=folder.config,
            dtype=dtype,
            use_safetensors=not folder.is_pickled,
            output_loading_info=True,
            **settings,
        )
    except Exception as error:
        text = text_of(error)
        if _CODE_WANTED in text and not folder.has_code:
            declared = Declared()
            check_trust(Question(folder.path, declared=declared), "a folder with code", "save it without custom code")
        cure = "install the package that it wants" if isinstance(error, ImportError) else _AGAIN
        raise TargetError(f"{folder.path.name} cannot be loaded for {options['task']}: {text}", cure) from error
    unused = ("pooler.",) if task.model == "AutoModel" else ()  # last_hidden_state does without
    missing = sorted(key for key in found["missing_keys"] if not key.startswith(unused))
    if missing:
        raise TargetError(
            f"{folder.path.name} has no weights for {', '.join(missing[:3])}, which {options['task']} needs",
            "fetch the folder again, or declare the task that its weights are for: runtime_options = { task = ... }",
        )
    _set_padding(model, processor)
    return Parts(folder.path, folder.config, options, model.eval().to(device), processor)


def _processor(folder: _Folder, task: Task, settings: dict[str, Any]) -> Any:
    """The tokenizer or image processor of a folder. Raises TargetError where it has none."""
    import transformers

    kind, file, place = _PROCESSORS[task.processor]
    cure = f"put {file} there, as save_pretrained writes it"
    try:
        processor = getattr(transformers, task.processor).from_pretrained(_place(folder.path, place), **settings)
    except Exception as error:
        reason = text_of(error).partition("\n")[0]
        raise TargetError(f"{folder.path.name} has no {kind} that can be loaded: {reason}", cure) from error
    if hasattr(processor, "get_vocab") and set(processor.get_vocab()) <= set(processor.all_special_tokens):
        # That is what transformers makes of no file at all.
        raise TargetError(f"{folder.path.name} has no {kind}: there are no words in its vocabulary", cure)
    return processor


def _place(folder: Path, name: str) -> Path:
    """The folder itself, or where MLflow has put the tokenizer or image processor of a model: beside it."""
    beside = folder.parent / "components" / name
    return beside if (folder.parent / "MLmodel").is_file() and beside.is_dir() else folder


def _set_padding(model: Any, processor: Any) -> None:
    """Texts of a batch want a token to pad with: another one does, where there is none, as it is masked."""
    if getattr(processor, "pad_token", "") is None:
        processor.pad_token = processor.eos_token or processor.unk_token
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = getattr(processor, "pad_token_id", None)
