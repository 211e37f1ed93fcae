"""Runtime of learners that fastai has exported, tabular ones and those of images, where they are trusted.

https://docs.fast.ai/learner.html#learner.export
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samovar.errors import TargetError, UnsafeFormatError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, zip_entry, zip_names
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
    signature_from="columns and vocab of the learner; images as pixels",
    safety="a pickle: --trust",
)

_IMAGES, _PREDICTION = "image", "prediction"
_MISSING = "_na"  # of the columns that FillMissing makes itself
_BATCH = "batch"


def recognise(path: Path) -> Sure:
    """Archives of torch.save that begin with a class of fastai."""
    return Sure.CERTAIN if "data.pkl" in zip_names(path) and b"fastai." in zip_entry(path, "data.pkl") else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a learner. Raises TargetError, ConfigError, or UnsafeFormatError unless it is trusted."""
    path = question.path
    options = runtime_options(question, DEVICE)
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

    table = _framed(columns) if columns else _pictures
    is_exclusive = _is_exclusive(learner)

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        with learner.no_bar(), learner.no_logging(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = learner.get_preds(dl=learner.dls.test_dl(table(inputs), num_workers=0))[0].numpy()
        if labels is None:
            return {_PREDICTION: found}
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


def _pictures(inputs: dict[str, Any]) -> list[Any]:
    return list(inputs[_IMAGES])


def _learner(path: Path) -> Any:
    """The learner of a file, for the processor. Raises TargetError."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # fastai imports matplotlib, which looks for a screen
    if "data.pkl" not in zip_names(path):
        fault = foreign(path)
        if fault is None or "zip" in fault.message:
            raise TargetError(f"{path.name} is no learner of fastai, or cut off", "export it again: learn.export()")
        raise TargetError(f"{fault.message}, no learner of fastai", fault.next_step)
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
    steps = [type(step).__name__ for step in getattr(learner.dls.after_batch, "fs", ())]
    if "IntToFloatTensor" not in steps:
        raise TargetError(
            f"{path.name} is a learner of neither tables nor images",
            "write a Python class that loads it, or export its model to ONNX",
        )
    return [FileTensor(_IMAGES, Datatype.UINT8, (_BATCH, -1, -1, 3))]


def _outputs(learner: Any, labels: list[Any] | None) -> list[FileTensor]:
    if labels is None:
        return [FileTensor(_PREDICTION, Datatype.FP32, (_BATCH, -1))]
    label, probabilities = classifier_outputs(labels, Datatype.FP32)
    return [label, probabilities] if _is_exclusive(learner) else [probabilities]


def _labels(learner: Any) -> list[Any] | None:
    """The vocab of its one target; a learner of images has none besides, one of several has a list of them."""
    vocab = getattr(learner.dls, "vocab", None)
    if vocab is None or len(vocab) == 0 or isinstance(vocab[0], list | tuple) or hasattr(vocab[0], "items"):
        return None
    return labels_of(vocab)


def _is_exclusive(learner: Any) -> bool:
    """Whether a row has one label: the loss of several is a binary one for each."""
    return "BCE" not in type(learner.loss_func).__name__
