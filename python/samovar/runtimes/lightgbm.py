"""Runtime of LightGBM models in their text form, by lightgbm itself.

Its parts and their order: https://github.com/microsoft/LightGBM/blob/master/src/boosting/gbdt_model_text.cpp
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samovar.errors import TargetError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, json_start, peek
from samovar.runtimes.files import FileModel, check_options, imported, runtime_options
from samovar.runtimes.forests import Forest, Task
from samovar.types import Datatype

__all__ = ["ABOUT", "IMPORTS", "categories_of", "check_whole", "inspect", "load", "recognise"]

IMPORTS = ("lightgbm", "numpy")
ABOUT = About(
    "LightGBM models",
    extra="lightgbm",
    recognised_by="text whose first lines are tree and version=",
    signature_from="features, categories and objective of the model",
    safety="safe",
)

_START = b"tree\nversion="
# Options of lightgbm's prediction, by its names: to stop early is faster and less exact, for classes alone.
_OPTIONS = {"pred_early_stop": False, "pred_early_stop_freq": 10, "pred_early_stop_margin": 10.0}


def recognise(path: Path) -> Sure:
    """Texts with the first lines of LightGBM, and what dump_model gives: JSON that lightgbm cannot read."""
    if peek(path, len(_START) + 1).replace(b"\r", b"").startswith(_START):
        return Sure.CERTAIN
    return Sure.LIKELY if _is_dump(path) else Sure.NO


def _is_dump(path: Path) -> bool:
    return json_start(path, "label_index", "max_feature_idx")


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a file. Raises TargetError or ConfigError."""
    options = runtime_options(question, _OPTIONS)
    booster = _booster(question.path)
    forest = _forest(booster)
    read_from = f"the model, whose objective is {_objective(booster)}"
    source: dict[str, Any] = {"read_from": read_from, "runtime_options": options}
    if booster.pandas_categorical and not forest.categories:
        source["note"] = "the file does not say which columns its categories are of: send their places"
    return [forest.description(question, "lightgbm", IMPORTS, **source)]


def load(spec: dict[str, Any]) -> FileModel:
    """Load a model. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    booster = _booster(path)
    options = {"num_threads": spec["options"]["threads"], **spec["source"]["runtime_options"]}
    return _forest(booster).model(spec, lambda matrix: booster.predict(matrix, **options))


def check_whole(path: Path) -> bytes:
    """The text of a file, its lines ended as lightgbm wants it. Raises TargetError for one that was cut or changed.

    lightgbm crashes on one that ends early, or whose lines end otherwise. The header has the sizes of all trees: each
    begins at its place. What follows them ends with the parameters, where there are some, but for a line of lightgbm's
    Python package.
    """
    content = path.read_bytes().replace(b"\r\n", b"\n")
    if _is_dump(path):
        raise TargetError(
            f"{path.name} is a dump of a LightGBM model, which is to be read by people",
            "save_model('model.txt') writes one that can be loaded",
        )
    if not content.startswith(_START):
        raise foreign(path) or TargetError(f"{path.name} is no LightGBM model", "save_model('model.txt') writes one")
    header, _, rest = content.partition(b"\n\n")
    _, _, sizes = header.partition(b"\ntree_sizes=")
    place = 0
    for number, size in enumerate(sizes.partition(b"\n")[0].split()):
        if not rest.startswith(b"Tree=%d\n" % number, place) or not size.isdigit():
            raise _broken(path, f"tree {number} of the file is not in its place")
        place += int(size)
    if not sizes or not rest.startswith(b"end of trees", place):
        raise _broken(path, "the end of its trees is not in its place")
    if b"\nparameters:\n" in rest[place:] and b"\nend of parameters\n" not in rest[place:]:
        raise _broken(path, "it ends among its parameters")
    return content


def _broken(path: Path, cause: str) -> TargetError:
    return TargetError(f"{path.name} is cut or changed: {cause}", "save or fetch the file again")


def _booster(path: Path) -> Any:
    """The model of a file. Raises TargetError."""
    lightgbm = imported("lightgbm", ABOUT)
    content = check_whole(path)
    try:
        return lightgbm.Booster(model_str=content.decode())
    except (lightgbm.basic.LightGBMError, ValueError) as error:  # the latter by its line of categories, or no UTF-8
        raise TargetError(
            f"{path.name} cannot be loaded by lightgbm: {text_of(error)}", "save or fetch the file again"
        ) from None


def _objective(booster: Any) -> str:
    """The first of its words, as the file has them: `binary sigmoid:1`."""
    return str(_dumped(booster).get("objective") or "custom").partition(" ")[0]


def _dumped(booster: Any) -> Mapping[str, Any]:
    """The header of the file, with one iteration: the least that can be asked for."""
    dumped: Mapping[str, Any] = booster.dump_model(num_iteration=1)
    return dumped


def _forest(booster: Any) -> Forest:
    objective, width = _objective(booster), booster.num_model_per_iteration()
    tasks = {"binary": Task.BINARY, "multiclass": Task.CLASSES, "multiclassova": Task.CLASSES}
    task = tasks.get(objective, Task.NUMBERS)
    # A file has no names of classes: LGBMClassifier counts them from 0.
    labels = {Task.BINARY: range(2), Task.CLASSES: range(width)}.get(task)
    names, categories = booster.feature_name(), categories_of(booster)
    is_named = bool(categories) or names != [f"Column_{place}" for place in range(len(names))]  # which are made up
    return Forest(task, width, len(names), Datatype.FP64, labels, names if is_named else [], categories)


def categories_of(booster: Any) -> Mapping[str, list[Any]]:
    """Lists of categories follow each other, without names; the parameters say of which columns, unless some differ."""
    lists = booster.pandas_categorical or []
    places = booster.params.get("categorical_feature") or []
    if len(places) != len(lists):
        return {}
    names, seen = booster.feature_name(), _dumped(booster)["feature_infos"]
    found = {names[place]: values for place, values in zip(places, lists, strict=True)}
    fit = all(max(seen.get(name, {}).get("values") or [0]) < len(values) for name, values in found.items())
    return found if fit else {}
