"""Runtime of XGBoost models: JSON and UBJSON, by xgboost itself.

The document of a model: https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
"""

import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from samovar.errors import TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, json_start, peek
from samovar.runtimes.files import FileModel, check_options, imported, runtime_options
from samovar.runtimes.forests import Forest, Task
from samovar.types import Datatype

__all__ = ["ABOUT", "IMPORTS", "categories_of", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "xgboost")
ABOUT = About(
    "XGBoost models",
    extra="xgboost",
    recognised_by="JSON or UBJSON object that begins with learner",
    signature_from="features, categories and objective of the model",
    safety="safe",
)

_UBJSON = b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner"
# What xgboost 3.1 can no longer read: a mark, or none, and 136 bytes before the objective and the booster.
_BEFORE_JSON = re.compile(rb"binf|.{144,148}[a-z]+:[a-z]+.{8}(gbtree|gblinear|dart)", re.DOTALL)
# What is for people to read, by its first bytes and keys.
_DUMPS = (b"booster[0]:", b'{ "nodeid": 0')
_SAVE = "save_model('model.ubj') writes one that can be loaded"
# What XGBClassifier does with a softmax or a logistic one; of all others the numbers are the answer.
_BINARY = ("binary:logistic", "binary:hinge")
_CLASSES = ("multi:softprob", "multi:softmax")
_OPTIONS = {"iterations": ("best", "all")}
_PLACE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")  # in the sources of xgboost


def recognise(path: Path) -> Sure:
    """Objects whose first key is learner."""
    start = peek(path, len(_UBJSON))
    if start == _UBJSON or json_start(path, "learner", "attributes"):
        return Sure.CERTAIN
    if _BEFORE_JSON.match(peek(path)) or _for_people(path):
        return Sure.LIKELY
    return Sure.NAME if path.suffix.lower() == ".ubj" else Sure.NO


def _for_people(path: Path) -> str | None:
    """What xgboost wrote of a model that it cannot load."""
    if peek(path).lstrip(b"[ \n").startswith(_DUMPS):
        return "a dump of an XGBoost model"
    return "the configuration of an XGBoost model" if json_start(path, "learner", "generic_param") else None


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a file. Raises TargetError or ConfigError."""
    options = runtime_options(question, _OPTIONS)
    booster = _booster(question.path, threads=1)
    read_from = f"the model, whose objective is {_objective(booster)}"
    forest = _forest(booster)
    source: dict[str, Any] = {"read_from": read_from, "runtime_options": options}
    names = booster.feature_names or range(booster.num_features())
    kinds = zip(names, booster.feature_types or (), strict=False)
    if lacking := [str(name) for name, kind in kinds if kind == "c" and name not in forest.categories]:
        known = "which XGBoost keeps of data frames since 3.1, and of ASCII alone"
        source["note"] = f"the file does not have the categories of {', '.join(lacking)}, {known}: send their places"
    return [forest.description(question, "xgboost", IMPORTS, **source)]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a model. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    threads, is_best = spec["options"]["threads"], spec["source"]["runtime_options"]["iterations"] == "best"
    booster = _booster(path, threads=threads)
    return _forest(booster).model(spec, _scoring(booster, threads, is_best=is_best), refuses_unseen=True)


def _booster(path: Path, *, threads: int) -> Any:
    """The model of a file. Raises TargetError."""
    xgboost = imported("xgboost", ABOUT)
    start = peek(path)
    if _BEFORE_JSON.match(start):
        raise TargetError(
            f"{path.name} is in the binary format that XGBoost 3.1 gave up",
            "load it with an older XGBoost, and there save_model('model.ubj')",
        )
    if kind := _for_people(path):
        raise TargetError(f"{path.name} is {kind}, which xgboost cannot load", _SAVE)
    if start[:1] != b"{":
        raise foreign(path) or TargetError(f"{path.name} is no XGBoost model", _SAVE)
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(path.read_bytes()))  # it goes by content there, and by the suffix of a path
        booster.set_param({"nthread": threads})
    except xgboost.core.XGBoostError as error:
        cause = _PLACE.sub("", text_of(error)).partition("\n")[0]
        raise TargetError(f"{path.name} cannot be loaded by xgboost: {cause}", "save or fetch the file again") from None
    return booster


def _settings(booster: Any) -> dict[str, Any]:
    learner: dict[str, Any] = json.loads(booster.save_config())["learner"]
    return learner


def _objective(booster: Any) -> str:
    return str(_settings(booster)["objective"]["name"])


def _forest(booster: Any) -> Forest:
    numbers, objective = _settings(booster)["learner_model_param"], _objective(booster)
    targets, classes = int(numbers["num_target"]), int(numbers["num_class"])
    if objective in _CLASSES:
        task, width = Task.CLASSES, classes
    elif objective in _BINARY:
        task, width = (Task.BINARY, 2) if targets == 1 else (Task.MANY_LABELS, targets)
    else:
        task, width = Task.NUMBERS, max(targets, classes, 1)
    # A file has no names of classes: XGBClassifier wants them to be 0, 1, ...
    labels = range(width) if task in (Task.BINARY, Task.CLASSES) else None
    columns = booster.feature_names or []
    return Forest(task, width, booster.num_features(), Datatype.FP32, labels, columns, categories_of(booster))


def categories_of(booster: Any) -> Mapping[str, list[Any]]:
    """The categories of columns that had some in a data frame; XGBoost keeps them since 3.1."""
    if "c" not in (booster.feature_types or ()):
        return {}
    document = booster.save_raw("json").decode()
    _, mark, rest = document.partition('"cats":{"enc":')
    encodings = json.JSONDecoder().raw_decode(rest)[0] if mark else []
    pairs = zip(booster.feature_names or (), map(_values, encodings), strict=False)
    return {name: values for name, values in pairs if values}


def _values(encoding: Mapping[str, Any]) -> list[Any]:
    """Texts lie end to end, cut at `offsets`; none where some are not ASCII.

    XGBoost 3.2 counts characters there, and cuts off as many bytes at the end as UTF-8 takes more.
    """
    values, offsets = encoding["values"], encoding.get("offsets")
    if offsets is None:
        return list(values)
    content = bytes(value % 256 for value in values)
    if not content.isascii():
        return []
    return [content[start:end].decode() for start, end in pairwise(offsets)]


def _scoring(booster: Any, threads: int, *, is_best: bool) -> Callable[[Any], Any]:
    """The function from a matrix to scores; of a training that stopped early, the best iterations are asked alone."""
    import xgboost

    is_margin = _objective(booster) == "multi:softmax"  # whose value is the class, without its probability
    if _settings(booster)["gradient_booster"]["name"] == "gblinear":  # has no iterations, and no prediction in place

        def score(matrix: Any) -> Any:
            rows = xgboost.DMatrix(matrix, nthread=threads)
            return booster.predict(rows, output_margin=is_margin, validate_features=False)

    else:
        best = booster.attr("best_iteration")
        some = (0, int(best) + 1) if is_best and best is not None else (0, 0)

        kind = "margin" if is_margin else "value"

        def score(matrix: Any) -> Any:
            return booster.inplace_predict(matrix, iteration_range=some, predict_type=kind)

    return _softmax(score) if is_margin else score


def _softmax(score: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import numpy as np

    def probabilities(matrix: Any) -> Any:
        margins = score(matrix)
        powers = np.exp(margins - margins.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    return probabilities
