"""Runtime of CatBoost models in their own binary form, or in JSON, by catboost itself.

Kinds of prediction: https://catboost.ai/docs/en/concepts/python-reference_catboost_predict
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samovar.errors import TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, peek
from samovar.runtimes.files import FileModel, check_options, imported, runtime_options
from samovar.runtimes.forests import Forest, Task
from samovar.runtimes.tables import column_inputs, labels_of, matrix_input, texts
from samovar.runtimes.tensors import FileTensor
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("catboost", "numpy")
ABOUT = About(
    "CatBoost models",
    extra="catboost",
    recognised_by="the first bytes CBM1; JSON that begins with features_info or ctr_data; suffix .cbm",
    signature_from="features, classes and loss of the model",
    safety="safe",
)

_MAGIC = b"CBM1"
_JSON = re.compile(rb'\s*\{\s*"(ctr_data|features_info)"')  # its keys are sorted
_KEYS = {"features_info", "model_info", "scale_and_bias"}
_MANY_LABELS = ("MultiLogloss", "MultiCrossEntropy")


def recognise(path: Path) -> Sure:
    """Files with the magic of CatBoost, and its JSON."""
    if _format(path) is not None:
        return Sure.CERTAIN
    return Sure.NAME if path.suffix.lower() == ".cbm" else Sure.NO


def _format(path: Path) -> str | None:
    """By the name that catboost has for it."""
    start = peek(path)
    return "cbm" if start.startswith(_MAGIC) else "json" if _JSON.match(start) else None


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a file. Raises TargetError or ConfigError."""
    runtime_options(question, {})
    model = _model(question.path)
    read_from = f"the model, whose loss is {_loss(model)}"
    description = _forest(model).description(question, "catboost", IMPORTS, _inputs(model), read_from=read_from)
    _check_lengths(question.path, model, description)
    return [description]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a model. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    model = _model(path)
    forest, kind, threads = _forest(model), _kind(model), spec["options"]["threads"]

    def score(rows: Any) -> Any:
        scores = model.predict(rows, prediction_type=kind, thread_count=threads)
        return scores[:, 1] if forest.task is Task.BINARY else scores

    return forest.model(spec, score, _rows(model))


def _model(path: Path) -> Any:
    """The model of a file. Raises TargetError."""
    catboost = imported("catboost", ABOUT)
    kind = _format(path)
    if kind is None:
        raise foreign(path) or TargetError(f"{path.name} is no CatBoost model", "save_model('model.cbm') writes one")
    if kind == "json":
        _check_whole(path)
    try:
        return catboost.CatBoost().load_model(path, format=kind)
    except catboost.CatBoostError as error:
        raise TargetError(
            f"{path.name} cannot be loaded by catboost: {text_of(error)}", "save or fetch the file again"
        ) from None


def _check_whole(path: Path) -> None:
    """Raise TargetError for JSON that was cut: catboost takes what is left for the whole."""
    try:
        lacking = _KEYS - json.loads(path.read_bytes()).keys()
    except ValueError as error:
        raise TargetError(f"{path.name} is cut or damaged: {error}", "save or fetch the file again") from None
    if lacking:
        raise TargetError(f"{path.name} is no CatBoost model: it has no {min(lacking)}", "save the model again")


def _loss(model: Any) -> str:
    return str(model.get_all_params().get("loss_function", "custom"))


def _kind(model: Any) -> str:
    """The kind of prediction that CatBoostClassifier and CatBoostRegressor choose."""
    loss = _loss(model)
    if len(model.classes_):
        return "Probability"
    if loss.startswith(("Poisson", "Tweedie")):
        return "Exponent"
    return "RMSEWithUncertainty" if loss == "RMSEWithUncertainty" else "RawFormulaVal"


def _forest(model: Any) -> Forest:
    names, classes = model.feature_names_, labels_of(model.classes_)
    columns = [] if names == [str(place) for place in range(len(names))] else names  # it numbers those without a name
    if not classes:
        task, labels, width = Task.NUMBERS, None, _width(model)
    elif _loss(model) in _MANY_LABELS:
        task, labels, width = Task.MANY_LABELS, None, _width(model)
    else:
        task, labels, width = (Task.BINARY if len(classes) == 2 else Task.CLASSES), classes, len(classes)
    threshold = float(model.get_metadata().get("binclass_probability_threshold", 0.5))
    return Forest(task, width, len(names), Datatype.FP64, labels, columns, threshold=threshold)


def _width(model: Any) -> int:
    """How many scores a row has: a leaf has as many values."""
    leaves = int(model.get_tree_leaf_counts().sum())
    return len(model.get_leaf_values()) // leaves if leaves else 1


def _text_places(model: Any) -> list[int]:
    """Of the columns of categories, whose numbers CatBoost takes as texts too, and of those of texts."""
    return [*model.get_cat_feature_indices(), *model.get_text_feature_indices()]


def _inputs(model: Any) -> list[FileTensor]:
    """One matrix of numbers, or an input for each column where some are none."""
    columns, texts_at, vectors_at = model.feature_names_, _text_places(model), model.get_embedding_feature_indices()
    if not texts_at and not vectors_at:
        return matrix_input(len(columns), Datatype.FP32)
    datatypes = [Datatype.BYTES if place in texts_at else Datatype.FP32 for place in range(len(columns))]
    inputs = column_inputs(columns, datatypes)
    for place in vectors_at:
        inputs[place] = FileTensor(columns[place], Datatype.FP32, ("batch", -1))
    return inputs


def _check_lengths(path: Path, model: Any, description: dict[str, Any]) -> None:
    """Refuse vectors of any length: CatBoost would read past the end of a short one, or answer wrongly."""
    inputs = Signature.from_json(description).inputs
    for place in model.get_embedding_feature_indices():
        if inputs[place].dims == (-1,):
            name = inputs[place].name
            raise TargetError(
                f'{path.name} does not say how long the vectors of "{name}" are',
                f'declare it in samovar.toml: inputs = [{{ name = "{name}", shape = ["batch", 16] }}]',
            )


def _rows(model: Any) -> Callable[[dict[str, Any]], Any] | None:
    """The function from columns to a table of objects: 0.3 ms for a row of four columns, and 0.8 ms by pandas."""
    import numpy as np

    columns, texts_at, vectors_at = model.feature_names_, _text_places(model), model.get_embedding_feature_indices()
    if not texts_at and not vectors_at:
        return None

    def rows(inputs: dict[str, Any]) -> Any:
        table = np.empty((len(inputs[columns[0]]), len(columns)), object)
        for place, name in enumerate(columns):
            if place in vectors_at:
                for row, vector in enumerate(inputs[name]):
                    table[row, place] = vector
            else:
                table[:, place] = texts(name, inputs[name]) if place in texts_at else inputs[name]
        return table

    return rows
