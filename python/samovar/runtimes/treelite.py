"""Runtime of forests of several packages by treelite: its own checkpoints, and what samovar.toml wants run by it.

The layout of a checkpoint: https://treelite.readthedocs.io/en/latest/serialization/v4.html
"""

import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from samovar.errors import TargetError, text_of
from samovar.runtimes import About, Question, Sure, lightgbm, sklearn, xgboost
from samovar.runtimes.contents import foreign, peek, starts_as_pickle
from samovar.runtimes.files import FileModel, check_options, check_trust, imported, runtime_options
from samovar.runtimes.forests import Forest, Task
from samovar.runtimes.tables import labels_of
from samovar.types import Datatype

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "treelite")
ABOUT = About(
    "Treelite forests",
    extra="treelite",
    recognised_by="version and types at the head of a checkpoint; runtime = 'treelite' for files of XGBoost and others",
    signature_from="the header of the forest",
    safety="safe; a pickle of scikit-learn: --trust",
)

_HEADER = struct.Struct("<3i2BQ")  # version, types of thresholds and leaves, number of trees
_BINARY, _CLASSES, _ISOLATION = 0, 2, 4  # treelite's TaskType
_MOST_TREES = 1 << 32
_PROBES = 64
_CURE = "remove runtime = 'treelite': the package that it is from runs it"
_SUFFIXES = (".tl", ".treelite")


def recognise(path: Path) -> Sure:
    """Checkpoints of treelite 3 and 4; files of others are theirs."""
    return Sure.LIKELY if _is_checkpoint(path) else Sure.NAME if path.suffix.lower() in _SUFFIXES else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a forest. Raises TargetError, ConfigError, or UnsafeFormatError for a pickle."""
    path, is_trusted = question.path, bool(question.declared.trust)
    runtime_options(question, {})
    if starts_as_pickle(peek(path)):
        check_trust(question, "a Python pickle", "save it with skops.io.dump")
    forest, _, read_from = _read(path, threads=1, is_trusted=is_trusted)
    source: dict[str, Any] = {"read_from": read_from, **({"trusted": True} if is_trusted else {})}
    return [forest.description(question, "treelite", IMPORTS, **source)]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a forest. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    is_trusted = spec["source"].get("trusted", False)
    forest, score, _ = _read(path, threads=spec["options"]["threads"], is_trusted=is_trusted)
    return forest.model(spec, score)


def _read(path: Path, *, threads: int, is_trusted: bool) -> tuple[Forest, Callable[[Any], Any], str]:
    """The forest, its function from matrix to scores, and what it was read from. Raises TargetError."""
    treelite = imported("treelite", ABOUT)
    try:
        if _is_checkpoint(path):
            # From bytes: its reader of files takes what is left in memory for what a file that was cut lacks.
            return *_forest(
                path, treelite.Model.deserialize_bytes(path.read_bytes()), threads
            ), "the header of the forest"
        if xgboost.recognise(path) is Sure.CERTAIN:
            return *_of_xgboost(path, treelite, threads), "the forest of XGBoost"
        if lightgbm.recognise(path) is Sure.CERTAIN:
            return *_of_lightgbm(path, treelite, threads), "the forest of LightGBM"
        if sklearn.recognise(path) >= Sure.LIKELY:
            return *_of_sklearn(path, threads, is_trusted=is_trusted), "the forest of scikit-learn"
    except treelite.TreeliteError as error:
        if _is_checkpoint(path):
            raise TargetError(
                f"{path.name} is cut or damaged: treelite says {text_of(error)}", "serialize or fetch it again"
            ) from None
        raise TargetError(f"{path.name} cannot be loaded by treelite: {text_of(error)}", _CURE) from None
    raise foreign(path) or TargetError(
        f"{path.name} is no forest that treelite reads",
        "it reads its own checkpoints, and files of XGBoost, LightGBM and scikit-learn",
    )


def _is_checkpoint(path: Path) -> bool:
    start = peek(path, _HEADER.size)
    if len(start) < _HEADER.size:
        return False
    major, minor, patch, thresholds, leaves, trees = _HEADER.unpack(start)
    is_version = major in (3, 4) and 0 <= minor < 100 and 0 <= patch < 100
    return is_version and thresholds in (2, 3) and leaves in (1, 2, 3) and 0 < trees < _MOST_TREES


def _of_xgboost(path: Path, treelite: Any, threads: int) -> tuple[Forest, Callable[[Any], Any]]:
    model = treelite.frontend.load_xgboost_model(path, format_choice="inspect", allow_unknown_field=True)
    forest, score = _forest(path, model, threads)
    content = path.read_bytes()
    best, parallel = _said(content, "best_iteration"), _said(content, "num_parallel_tree") or 1
    trees_of_one = parallel * (forest.width if forest.task is not Task.BINARY else 1)
    if best is not None and (best + 1) * trees_of_one < model.num_tree:
        raise TargetError(
            f"the training of {path.name} stopped early: the best are {best + 1} iterations, and treelite asks all",
            f"save booster[:{best + 1}], or remove runtime = 'treelite'",
        )
    return forest, score


def _said(content: bytes, key: str) -> int | None:
    """A number that JSON or UBJSON has as a text."""
    found = re.search(rb'%s(?:"\s*:\s*"|SL.{8})(\d+)' % key.encode(), content, re.DOTALL)
    return None if found is None else int(found[1])


def _of_lightgbm(path: Path, treelite: Any, threads: int) -> tuple[Forest, Callable[[Any], Any]]:
    lightgbm.check_whole(path)
    forest, score = _forest(path, treelite.frontend.load_lightgbm_model(path), threads)
    if re.search(rb"^objective=cross_entropy\s", path.read_bytes(), re.MULTILINE):  # of a share, and not of classes
        forest = replace(forest, task=Task.NUMBERS, width=1, labels=None)
    return forest, score


def _of_sklearn(path: Path, threads: int, *, is_trusted: bool) -> tuple[Forest, Callable[[Any], Any]]:
    estimator = sklearn.estimator_of(path, path.stem, is_trusted=is_trusted)
    model = imported("treelite.sklearn", ABOUT).import_model(estimator)
    classes = getattr(estimator, "classes_", None)
    columns = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    forest, score = _forest(path, model, threads, None if classes is None else labels_of(classes))
    if not type(estimator).__name__.startswith("HistGradientBoosting"):
        score = _rounding(score)
    _check_equal(path, estimator, forest, score)
    return replace(forest, columns=columns), score


def _rounding(score: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The trees of scikit-learn compare FP32 with thresholds of FP64."""
    import numpy as np

    return lambda matrix: score(matrix.astype(np.float32).astype(np.float64))


def _check_equal(path: Path, estimator: Any, forest: Forest, score: Callable[[Any], Any]) -> None:
    """Refuse what treelite translates wrongly without a word: it knows one link function for some of several losses."""
    import numpy as np

    rows = np.random.default_rng(0).normal(scale=3.0, size=(_PROBES, forest.features))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns without their names
        wanted = estimator.predict(rows) if forest.task is Task.NUMBERS else estimator.predict_proba(rows)
    wanted = wanted[:, 1] if forest.task is Task.BINARY else wanted
    found = score(rows)
    if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=1e-4, atol=1e-6):
        raise TargetError(
            f"treelite answers otherwise than scikit-learn for the {type(estimator).__name__} of {path.name}", _CURE
        )


def _forest(
    path: Path, model: Any, threads: int, labels: list[Any] | None = None
) -> tuple[Forest, Callable[[Any], Any]]:
    """What the header says, and the function from a matrix to scores: classes without `labels` are counted from 0."""
    treelite = imported("treelite", ABOUT)
    fields = model.get_header_accessor()
    kind, targets = int(fields.get_field("task_type")[0]), int(fields.get_field("num_target")[0])
    classes, ending = int(fields.get_field("num_class")[0]), fields.get_field("postprocessor")
    if kind == _CLASSES and targets > 1:
        raise TargetError(f"{path.name} has classes of {targets} targets", _CURE)
    if kind == _CLASSES:
        task, width = Task.CLASSES, classes
    elif kind == _BINARY and ending in ("sigmoid", "hinge"):  # others give no probability
        task, width = (Task.BINARY, 2) if targets == 1 else (Task.MANY_LABELS, targets)
    else:
        task, width = Task.NUMBERS, targets
    labels = labels or list(range(width)) if task in (Task.BINARY, Task.CLASSES) else None
    datatype = Datatype.FP32 if model.input_type == "float32" else Datatype.FP64

    def score(matrix: Any) -> Any:
        scores = treelite.gtil.predict(model, matrix, nthread=threads)  # (rows, targets, classes)
        return scores.reshape(len(scores), -1) if scores[0].size > 1 else scores.reshape(len(scores))

    forest = Forest(task, width, int(model.num_feature), datatype, labels)
    return forest, _isolating(fields, score) if kind == _ISOLATION else score


def _isolating(fields: Any, score: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """-1 for what an isolation forest takes for an outlier and 1 for others, as its `predict` in scikit-learn."""
    import json

    import numpy as np

    offset = json.loads(fields.get_field("attributes"))["sklearn_iforest_offset"]
    return lambda matrix: np.where(-score(matrix) < offset, -1.0, 1.0)
