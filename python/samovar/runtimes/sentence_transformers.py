"""Runtime of folders of Sentence Transformers, by torch: a vector for each text.

What stands in such a folder: https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

import json
from pathlib import Path
from typing import Any

from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import peek
from samovar.runtimes.files import FileModel, check_options, check_trust, describe, imported, runtime_options
from samovar.runtimes.hubs import check_weights, go_offline, json_of, text_list, weights_of
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.runtimes.torchmodel import DEVICE, device_of, use_threads
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "sentence_transformers", "torch")
ABOUT = About(
    "Sentence Transformers models",
    extra="sentence-transformers",
    recognised_by="folder with modules.json, a list of modules with a type",
    signature_from="the length of the vectors that its modules make",
    safety="safetensors: safe; pickled weights and modules of other packages: --trust",
)

_MODULES = "modules.json"
_PICKLED = "pytorch_model*"
_OWN = "sentence_transformers."
_KIND = "SentenceTransformer"
_TEXT, _EMBEDDING = "text", "embedding"
_OPTIONS = {**DEVICE, "normalise": False, "dimensions": 0, "prompt": None}
_AGAIN = "fetch the folder again, or save it with save_pretrained"


def recognise(path: Path) -> Sure:
    """Folders with a list of modules."""
    start = peek(path / _MODULES).lstrip()
    if not start.startswith(b"["):
        return Sure.NO
    return Sure.CERTAIN if _OWN.encode() in start else Sure.LIKELY


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a folder. Raises TargetError, ConfigError, or UnsafeFormatError for code or pickles."""
    path = question.path
    options = runtime_options(question, _OPTIONS)
    model = _model(question)
    _check_options(path, model, options)
    length = options["dimensions"] or model.get_embedding_dimension()
    signature = signature_of(
        path.name,
        [FileTensor(_TEXT, Datatype.BYTES, ("batch",))],
        [FileTensor(_EMBEDDING, Datatype.FP32, ("batch", -1 if length is None else length))],
        question.declared,
    )
    return [
        describe(
            question,
            "sentence_transformers",
            signature,
            question.declared.options,
            IMPORTS,
            read_from=f"{_MODULES}: {', '.join(type(module).__name__ for module in model)}",
            runtime_options=options,
            **({"trusted": True} if question.declared.trust else {}),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load the modules of a folder. Raises TargetError, ConfigError or UnsafeFormatError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    trust = Declared(trust=spec["source"].get("trusted", False))
    model = _model(Question(path, name=spec["name"], version=spec["version"], declared=trust))
    use_threads(spec["options"]["threads"])
    options = spec["source"]["runtime_options"]
    model = model.to(device_of(path, options))
    settings = {
        "normalize_embeddings": options["normalise"],
        "truncate_dim": options["dimensions"] or None,
        "prompt_name": options["prompt"],
        "show_progress_bar": False,
    }

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        texts = text_list(_TEXT, inputs[_TEXT])
        return {_EMBEDDING: np.asarray(model.encode(texts, batch_size=len(texts), **settings), np.float32)}

    return FileModel(Signature.from_json(spec), run)


def _model(question: Question) -> Any:
    path = question.path
    _check_modules(question)
    kind = json_of(path, "config_sentence_transformers.json").get("model_type", _KIND)
    if kind != _KIND:
        raise TargetError(f"{path.name} is a {kind}, which makes no vectors of texts", f"save a {_KIND}")
    for folder in {file.parent for file in path.rglob("*") if file.match("*.safetensors") or file.match(_PICKLED)}:
        files, is_pickled = weights_of(folder, _PICKLED)
        check_weights(question, files, is_pickled=is_pickled)
    go_offline()
    sentence_transformers = imported("sentence_transformers", ABOUT)
    imported("transformers", ABOUT).utils.logging.disable_progress_bar()
    try:
        return sentence_transformers.SentenceTransformer(
            str(path), device="cpu", local_files_only=True, trust_remote_code=bool(question.declared.trust)
        ).eval()
    except Exception as error:
        text = text_of(error)
        if "trust_remote_code" in text:
            check_trust(question, "a folder with code", "save it without custom code")
        raise TargetError(f"{path.name} cannot be loaded: {text}", _AGAIN) from error


def _check_modules(question: Question) -> None:
    """Refuse modules of other packages, or of the folder itself, which run at the load. Raises UnsafeFormatError."""
    path = question.path
    try:
        types = [module["type"] for module in json.loads((path / _MODULES).read_bytes())]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TargetError(f"{_MODULES} in {path.name} is no list of modules: {text_of(error)}", _AGAIN) from None
    foreign = [kind for kind in types if not str(kind).startswith(_OWN)]
    if foreign:
        check_trust(question, f"a folder with the module {foreign[0]}", "save it with modules of its package alone")


def _check_options(path: Path, model: Any, options: dict[str, Any]) -> None:
    most = model.get_embedding_dimension()
    if not 0 <= options["dimensions"] <= (most or options["dimensions"]):
        raise ConfigError(
            f'runtime option "dimensions" of {path.name} is {options["dimensions"]}', f"its vectors have {most}"
        )
    if options["prompt"] is not None and options["prompt"] not in model.prompts:
        raise ConfigError(
            f'runtime option "prompt" of {path.name} is {options["prompt"]!r}',
            f"it has {', '.join(model.prompts) or 'none'}",
        )
