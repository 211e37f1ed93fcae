"""What Transformers models are for: the inputs and outputs of each task, and how one call runs.

Names of tasks: https://huggingface.co/docs/transformers/main_classes/pipelines
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samovar.errors import InvalidInputError, TargetError
from samovar.runtimes import LoadedModel, Question
from samovar.runtimes.files import FileModel
from samovar.runtimes.hubs import images, text_array, text_list
from samovar.runtimes.tables import LABEL
from samovar.runtimes.tensors import FileTensor
from samovar.runtimes.transformers.answers import answers
from samovar.runtimes.transformers.generation import Generator, check_generation, generation_options
from samovar.runtimes.transformers.parts import Parts
from samovar.types import Datatype, Signature

__all__ = ["TASKS", "Parts", "Task", "task_of"]

Tensors = tuple[list[FileTensor], list[FileTensor], dict[str, list[str]]]
Run = Callable[[dict[str, Any]], Mapping[str, Any]]

_BATCH = "batch"
_TEXT, _IMAGE = "text", "image"
_SCORES = "scores"
_CODE = "auto_map"
_SENSES = ("vision_config", "audio_config")  # of models that take pictures or sounds beside texts


@dataclass(frozen=True)
class Task:
    """One task: the classes of transformers that load its parts, its options, tensors, and its call."""

    architectures: tuple[str, ...]
    """What names of classes in config.json end with."""
    model: str
    processor: str
    options: Callable[[Path], dict[str, Any]]
    """Those of a folder, with their defaults."""
    tensors: Callable[[Parts], Tensors]
    load: Callable[[Parts, Signature], LoadedModel]


def task_of(question: Question, config: Any) -> tuple[str, Task]:
    """The task that is declared, or else the one of the architecture. Raises TargetError where neither says."""
    declared = question.declared.runtime_options.get("task")
    if declared is not None:
        if declared not in TASKS:
            raise TargetError(
                f"task {declared!r} of {question.path.name} is none that is served", f"those are: {', '.join(TASKS)}"
            )
        return declared, TASKS[declared]
    architectures = getattr(config, "architectures", None) or []
    for architecture in architectures:
        for name, task in TASKS.items():
            if architecture.endswith(task.architectures) and _takes(config, task):
                return name, task
    name = question.name or question.path.stem
    raise TargetError(
        f"{question.path.name} does not say what it is for: its architectures are {', '.join(architectures) or 'none'}",
        f"where its task is one of {', '.join(TASKS)}, write in samovar.toml: [models.{name}] "
        'runtime_options = { task = "feature-extraction" }; for others write a Python class that loads the folder',
    )


def _takes(config: Any, task: Task) -> bool:
    """Whether the class that loads the task knows the model, which takes texts alone where the task is of texts."""
    import transformers

    known = getattr(transformers, task.model)._model_mapping  # noqa: SLF001 - each has another name in public
    loaded = known.get(type(config), None)
    if loaded is None:
        return _CODE in config.to_dict()  # a class of the folder itself
    kind = loaded[0] if isinstance(loaded, tuple) else loaded
    is_of_texts = kind.main_input_name == "input_ids" and not any(hasattr(config, part) for part in _SENSES)
    if task.model == "AutoModel":
        return is_of_texts and not config.is_encoder_decoder
    return is_of_texts or task.processor != "AutoTokenizer"


def _no_options(_: Path) -> dict[str, Any]:
    return {}


def _labels(config: Any) -> list[str]:
    return [str(config.id2label[index]) for index in range(len(config.id2label))]


def _classified(parts: Parts, name: str) -> Tensors:
    labels = _labels(parts.config)
    return (
        [FileTensor(name, Datatype.BYTES, (_BATCH,))],
        [
            FileTensor(LABEL, Datatype.BYTES, (_BATCH,)),
            FileTensor(_SCORES, Datatype.FP32, (_BATCH, len(labels))),
        ],
        {_SCORES: labels},
    )


def _classify_texts(parts: Parts, signature: Signature) -> FileModel:
    labels = _labels(parts.config)

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        logits = parts.forward(parts.tokens(text_list(_TEXT, inputs[_TEXT]))).logits.float()
        return _scored(labels, _probabilities(parts.config, logits))

    return FileModel(signature, parts.without_gradients(run))


def _classify_images(parts: Parts, signature: Signature) -> FileModel:
    labels = _labels(parts.config)

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        prepared = parts.processor(images=images(_IMAGE, inputs[_IMAGE]), return_tensors="pt")
        prepared["pixel_values"] = prepared["pixel_values"].to(parts.model.dtype)
        return _scored(labels, _probabilities(parts.config, parts.forward(prepared).logits.float()))

    model = FileModel(signature, parts.without_gradients(run))
    model.samples = list  # none: an empty text, which is what a warm-up has, is no image
    return model


def _probabilities(config: Any, logits: Any) -> Any:
    """What the pipelines of transformers do: the kind of problem says it, or else the number of labels."""
    if config.problem_type == "regression":
        return logits
    is_alone = config.problem_type is None and logits.shape[-1] == 1
    if is_alone or config.problem_type == "multi_label_classification":
        return logits.sigmoid()
    return logits.softmax(-1)


def _scored(labels: Sequence[str], scores: Any) -> dict[str, Any]:
    return {
        LABEL: text_array([labels[place] for place in scores.argmax(-1).tolist()]),
        _SCORES: scores.numpy(force=True),
    }


def _token_options(_: Path) -> dict[str, Any]:
    return {"aggregation": ("simple", "none", "first", "average", "max")}


def _entities(_: Parts) -> Tensors:
    inputs = [FileTensor(_TEXT, Datatype.BYTES, (_BATCH,))]
    return inputs, [FileTensor("entities", Datatype.BYTES, (_BATCH,))], {}


def _find_entities(parts: Parts, signature: Signature) -> FileModel:
    """Each text has its own number of entities: they are a JSON text for each."""
    import json

    import transformers

    pipeline = transformers.pipeline(
        "token-classification",
        model=parts.model,
        tokenizer=parts.processor,
        aggregation_strategy=parts.options["aggregation"],
        device=parts.model.device,
    )

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        found = pipeline(text_list(_TEXT, inputs[_TEXT]), batch_size=len(inputs[_TEXT]))
        plain = [json.dumps(entities, default=_plain, ensure_ascii=False) for entities in found]
        return {"entities": text_array(plain)}

    return FileModel(signature, parts.without_gradients(run))


def _plain(value: Any) -> Any:
    """Numbers of numpy as JSON has them."""
    return value.item()


def _mask_options(_: Path) -> dict[str, Any]:
    return {"top_k": 5}


def _filled(parts: Parts) -> Tensors:
    most = parts.options["top_k"]
    if not 1 <= most <= parts.config.vocab_size:
        raise TargetError(
            f"runtime option top_k of {parts.path.name} is {most}", f"it wants 1 to {parts.config.vocab_size}"
        )
    outputs = [
        FileTensor("tokens", Datatype.BYTES, (_BATCH, most)),
        FileTensor(_SCORES, Datatype.FP32, (_BATCH, most)),
    ]
    return [FileTensor(_TEXT, Datatype.BYTES, (_BATCH,))], outputs, {}


def _fill_masks(parts: Parts, signature: Signature) -> FileModel:
    tokenizer = parts.processor

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        tokens = parts.tokens(text_list(_TEXT, inputs[_TEXT]))
        is_mask = tokens["input_ids"] == tokenizer.mask_token_id
        for index, count in enumerate(is_mask.sum(-1).tolist()):
            if count != 1:
                raise InvalidInputError(
                    f'element {index} of input "{_TEXT}" has {count} times {tokenizer.mask_token}, not once',
                    "write it where a word is to be found",
                )
        found = parts.forward(tokens).logits[is_mask].float().softmax(-1).topk(parts.options["top_k"])
        words = [tokenizer.decode([token]) for token in found.indices.ravel().tolist()]
        return {"tokens": text_array(words).reshape(found.indices.shape), _SCORES: found.values.numpy(force=True)}

    model = FileModel(signature, parts.without_gradients(run))
    model.samples = list  # none: an empty text has no mask
    return model


def _pooling_options(_: Path) -> dict[str, Any]:
    return {"pooling": ("mean", "first", "last", "max"), "normalise": False}


def _embedded(parts: Parts) -> Tensors:
    outputs = [FileTensor("embedding", Datatype.FP32, (_BATCH, getattr(parts.config, "hidden_size", -1)))]
    return [FileTensor(_TEXT, Datatype.BYTES, (_BATCH,))], outputs, {}


def _embed(parts: Parts, signature: Signature) -> FileModel:
    import torch

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        tokens = parts.tokens(text_list(_TEXT, inputs[_TEXT]))
        states = parts.forward(tokens).last_hidden_state.float()
        pooled = _pooled(states, tokens["attention_mask"].bool(), parts.options["pooling"])
        if parts.options["normalise"]:
            pooled = torch.nn.functional.normalize(pooled, dim=-1)
        return {"embedding": pooled.numpy(force=True)}

    return FileModel(signature, parts.without_gradients(run))


def _pooled(states: Any, is_token: Any, pooling: str) -> Any:
    """One vector of each text, of those of its tokens."""
    rows = range(len(states))
    if pooling == "first":
        return states[rows, is_token.int().argmax(-1)]
    if pooling == "last":
        return states[rows, is_token.shape[-1] - 1 - is_token.flip(-1).int().argmax(-1)]
    if pooling == "max":
        return states.masked_fill(~is_token.unsqueeze(-1), float("-inf")).amax(1)
    weights = is_token.unsqueeze(-1).float()
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def _answer_options(_: Path) -> dict[str, Any]:
    return {"max_answer_tokens": 15, "stride": 128}


def _answered(_: Parts) -> Tensors:
    inputs = [FileTensor(name, Datatype.BYTES, (_BATCH,)) for name in ("question", "context")]
    outputs = [
        FileTensor("answer", Datatype.BYTES, (_BATCH,)),
        FileTensor("score", Datatype.FP32, (_BATCH,)),
        FileTensor("start", Datatype.INT64, (_BATCH,)),
        FileTensor("end", Datatype.INT64, (_BATCH,)),
    ]
    return inputs, outputs, {}


def _answer(parts: Parts, signature: Signature) -> FileModel:
    return FileModel(signature, parts.without_gradients(answers(parts)))


def _generated(parts: Parts) -> Tensors:
    """A stream has one prompt, and a text for each of its parts."""
    check_generation(parts)
    streams = parts.options["stream"]
    shape: tuple[int | str, ...] = (1,) if streams else (_BATCH,)
    outputs = [FileTensor(_TEXT, Datatype.BYTES, (-1,) if streams else (_BATCH,))]
    return [FileTensor("prompt", Datatype.BYTES, shape)], outputs, {}


def _generate(parts: Parts, _: Signature) -> LoadedModel:
    return Generator(parts)


_TEXT_TO_TEXT = "text2text-generation"
TASKS = {
    "text-classification": Task(
        ("ForSequenceClassification",),
        "AutoModelForSequenceClassification",
        "AutoTokenizer",
        _no_options,
        lambda parts: _classified(parts, _TEXT),
        _classify_texts,
    ),
    "token-classification": Task(
        ("ForTokenClassification",),
        "AutoModelForTokenClassification",
        "AutoTokenizer",
        _token_options,
        _entities,
        _find_entities,
    ),
    "question-answering": Task(
        ("ForQuestionAnswering",),
        "AutoModelForQuestionAnswering",
        "AutoTokenizer",
        _answer_options,
        _answered,
        _answer,
    ),
    "fill-mask": Task(("ForMaskedLM",), "AutoModelForMaskedLM", "AutoTokenizer", _mask_options, _filled, _fill_masks),
    "image-classification": Task(
        ("ForImageClassification",),
        "AutoModelForImageClassification",
        "AutoImageProcessor",
        _no_options,
        lambda parts: _classified(parts, _IMAGE),
        _classify_images,
    ),
    "text-generation": Task(
        ("ForCausalLM", "LMHeadModel"),
        "AutoModelForCausalLM",
        "AutoTokenizer",
        generation_options,
        _generated,
        _generate,
    ),
    _TEXT_TO_TEXT: Task(
        ("ForConditionalGeneration",),
        "AutoModelForSeq2SeqLM",
        "AutoTokenizer",
        generation_options,
        _generated,
        _generate,
    ),
    "feature-extraction": Task(("Model",), "AutoModel", "AutoTokenizer", _pooling_options, _embedded, _embed),
}
