"""Runtime of learners that fastai has exported, of tables, images and texts, where they are trusted.

https://docs.fast.ai/learner.html#learner.export
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samovar.errors import TargetError, UnsafeFormatError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import ZIP, foreign, peek, zip_entry, zip_names
from samovar.runtimes.files import FileModel, check_options, check_trust, describe, imported, runtime_options
from samovar.runtimes.tables import (
    LABEL,
    PROBABILITIES,
    classifier_outputs,
    column_inputs,
    label_array,
    labels_of,
    texts,
)
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.runtimes.torchmodel import DEVICE, device_of, use_threads
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "torch", "fastai")
ABOUT = About(
    "fastai learners",
    extra="fastai",
    recognised_by="zip archive whose data.pkl has fastai",
    signature_from="columns and vocab of the learner; images as pixels, texts as they are",
    safety="a pickle: --trust",
)

_IMAGES, _TEXTS, _PREDICTION = "image", "text", "prediction"
_OF_TEXTS, _OF_MASKS = "TensorText", "PILMask"  # what fastai makes of inputs and targets
_MISSING = "_na"  # of the columns that FillMissing makes itself
_BATCH = "batch"
_CUT_BYTES = 4096


def recognise(path: Path) -> Sure:
    """Archives of torch.save that begin with a class of fastai, and what is left of one that is cut off."""
    if "data.pkl" in zip_names(path) and b"fastai." in zip_entry(path, "data.pkl"):
        return Sure.CERTAIN
    start = peek(path, _CUT_BYTES)
    return Sure.LIKELY if start.startswith(ZIP) and not zip_names(path) and b"fastai." in start else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a learner. Raises TargetError, ConfigError, or UnsafeFormatError unless it is trusted."""
    path = question.path
    options = runtime_options(question, DEVICE)
    _check_archive(path)
    check_trust(question, "a pickled learner of fastai", "export its model to ONNX or by torch.export")
    learner = _learner(path)
    columns = _columns(learner)
    labels = _labels(learner)
    signature = signature_of(path.name, _inputs(path, learner, columns), _outputs(learner, labels), question.declared)
    return [
        describe(
            question,
            "fastai",
            signature,
            question.declared.options,
            IMPORTS,
            read_from=f"the exported {type(learner).__name__}",
            columns=list(columns),
            runtime_options=options,
            trusted=True,
            **({"labels": {PROBABILITIES: labels}} if labels is not None else {}),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a learner. Raises TargetError, ConfigError or UnsafeFormatError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    if not spec["source"].get("trusted"):
        raise UnsafeFormatError(f"unsafe_format: {path.name} is a pickle, which is not trusted", "load it again")
    learner = _learner(path)
    device = device_of(path, spec["source"]["runtime_options"])
    learner.dls.to(device)
    learner.model.to(device)
    use_threads(spec["options"]["threads"])
    return FileModel(Signature.from_json(spec), _run(learner, list(spec["source"]["columns"]), _labels(learner)))


def _run(learner: Any, columns: list[str], labels: list[Any] | None) -> Callable[[dict[str, Any]], Any]:
    import numpy as np

    table = _framed(columns) if columns else _items
    is_exclusive = _is_exclusive(learner)
    output = PROBABILITIES if _kinds(learner)[1] == _OF_MASKS else _PREDICTION

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        with learner.no_bar(), learner.no_logging(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = learner.get_preds(dl=learner.dls.test_dl(table(inputs), num_workers=0))[0].numpy()
        if labels is None:
            return {output: found}
        outputs = {PROBABILITIES: found}
        if is_exclusive:
            outputs[LABEL] = label_array(labels, np.argmax(found, -1))
        return outputs

    return run


def _framed(columns: list[str]) -> Callable[[dict[str, Any]], Any]:
    pandas = imported("pandas", ABOUT)

    def framed(inputs: dict[str, Any]) -> Any:
        arrays = {name: texts(name, array) if array.dtype == object else array for name, array in inputs.items()}
        return pandas.DataFrame(arrays)[columns]

    return framed


def _items(inputs: dict[str, Any]) -> list[Any]:
    """The pictures or texts of the one input."""
    ((name, array),) = inputs.items()
    return list(texts(name, array)) if array.dtype == object else list(array)


def _learner(path: Path) -> Any:
    """The learner of a file, for the processor. Raises TargetError."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # fastai imports matplotlib, which looks for a screen
    _check_archive(path)
    learning = imported("fastai.learner", ABOUT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is a pickle: who trusts it knows
            found = learning.load_learner(path, cpu=True)
    except Exception as error:
        raise TargetError(
            f"{path.name} cannot be loaded: {text_of(error)}",
            "export it with functions of modules that can be imported here, by the fastai and torch that are here",
        ) from error
    if not isinstance(found, learning.Learner):
        raise TargetError(f"{path.name} holds {type(found).__name__}, no learner of fastai", "write learn.export()")
    return found


def _check_archive(path: Path) -> None:
    """Refuse what is no whole archive, before anybody is asked to trust it. Raises TargetError."""
    if "data.pkl" not in zip_names(path):
        fault = foreign(path)
        if fault is None or "zip" in fault.message:
            raise TargetError(f"{path.name} is no learner of fastai, or cut off", "export it again: learn.export()")
        raise TargetError(f"{fault.message}, no learner of fastai", fault.next_step)


def _kinds(learner: Any) -> tuple[str, str]:
    """What its last transforms make of an input and of a target; nothing for tables, which have none."""
    lists = getattr(learner.dls.train_ds, "tls", ())
    names = [str(getattr(one.types[-1], "__name__", "")) for one in lists]
    return (names[0], names[-1]) if names else ("", "")


def _columns(learner: Any) -> dict[str, Datatype]:
    """Names and datatypes of the columns of a table; none where it takes images."""
    dls = learner.dls
    numbers = [str(name) for name in getattr(dls, "cont_names", None) or ()]
    words = [str(name) for name in getattr(dls, "cat_names", None) or ()]
    columns = {}
    for name in words:
        if name.endswith(_MISSING) and name.removesuffix(_MISSING) in numbers:
            continue
        known = [value for value in getattr(dls, "classes", {}).get(name, ()) if value != "#na#"]
        is_text = any(isinstance(value, str) for value in known)
        columns[name] = Datatype.BYTES if is_text or not known else Datatype.INT64
    return columns | dict.fromkeys(numbers, Datatype.FP64)


def _inputs(path: Path, learner: Any, columns: dict[str, Datatype]) -> list[FileTensor]:
    if columns:
        return column_inputs(list(columns), list(columns.values()))
    if _kinds(learner)[0] == _OF_TEXTS and _labels(learner) is not None:
        return [FileTensor(_TEXTS, Datatype.BYTES, (_BATCH,))]
    steps = [type(step).__name__ for step in getattr(learner.dls.after_batch, "fs", ())]
    if "IntToFloatTensor" not in steps:
        raise TargetError(
            f"{path.name} is a learner of neither tables nor images, and no classifier of texts",
            "write a Python class that loads it, or export its model to ONNX",
        )
    return [FileTensor(_IMAGES, Datatype.UINT8, (_BATCH, -1, -1, 3))]


def _outputs(learner: Any, labels: list[Any] | None) -> list[FileTensor]:
    if _kinds(learner)[1] == _OF_MASKS:
        return [FileTensor(PROBABILITIES, Datatype.FP32, (_BATCH, -1, -1, -1))]  # of each class, for each point
    if labels is None:
        return [FileTensor(_PREDICTION, Datatype.FP32, (_BATCH, -1))]
    label, probabilities = classifier_outputs(labels, Datatype.FP32)
    return [label, probabilities] if _is_exclusive(learner) else [probabilities]


def _labels(learner: Any) -> list[Any] | None:
    """The vocab of its one target; a learner of texts has one of words before it, one of several targets more."""
    vocab = getattr(learner.dls, "vocab", None)
    if _kinds(learner)[0] == _OF_TEXTS and vocab is not None and not isinstance(vocab[0], str):
        vocab = vocab[-1]
    if vocab is None or len(vocab) == 0 or isinstance(vocab[0], list | tuple) or hasattr(vocab[0], "items"):
        return None
    return labels_of(vocab)


def _is_exclusive(learner: Any) -> bool:
    """Whether a row has one label: the loss of several is a binary one for each."""
    return "BCE" not in type(learner.loss_func).__name__
