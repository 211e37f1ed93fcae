"""What a fitted estimator of scikit-learn takes and gives.

It keeps the names of its columns and not their datatypes: those are told by its parts that look at values, which keep
some of the training. What it gives is told by one row.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from samovar.config.declared import DeclaredTensor
from samovar.errors import TargetError
from samovar.runtimes import lightgbm, xgboost
from samovar.runtimes.tables import (
    LABEL,
    MATRIX,
    PREDICTION,
    PROBABILITIES,
    classifier_outputs,
    column_inputs,
    labels_of,
    matrix_input,
    texts,
)
from samovar.runtimes.tensors import FileTensor
from samovar.types import Datatype

__all__ = ["Columns", "answers_of", "columns_of", "inputs_of", "labels_in", "outputs_of", "rows_of", "set_threads"]

TEXT, TRANSFORMED = "text", "transformed"
_BATCH = "batch"
_NAN = float("nan")
_TEXT_KINDS = "OUST"
# What holds fitted estimators that are given the same columns: one, several, or pairs of names and them.
_ONE = ("best_estimator_", "estimator_", "regressor_", "_preprocessor")
_SEVERAL = ("estimators_", "calibrated_classifiers_")
_PAIRS = "transformer_list"
_NO_ARRAYS = {"DictVectorizer": "dictionaries", "FeatureHasher": "dictionaries", "MultiLabelBinarizer": "sets"}


@dataclass
class Columns:
    """What the parts of an estimator tell of its columns, by their places; `names` is empty after a fit on an array."""

    names: list[str]
    width: int | None
    """None where the estimator does not count columns: documents are one."""
    is_flat: bool = False
    """An encoder of labels takes one value for each row."""
    used: set[int] = field(default_factory=set)
    texts: set[int] = field(default_factory=set)
    documents: set[int] = field(default_factory=set)
    """Texts that are taken apart: an empty one is no missing value."""
    examples: dict[int, Any] = field(default_factory=dict)
    """A value that the training had."""
    missing: dict[int, Any] = field(default_factory=dict)
    """What an empty text stands for, if that is not NaN."""
    categories: dict[int, Sequence[Any]] = field(default_factory=dict)
    """Of columns that a data frame must have as categories."""

    @property
    def is_documents(self) -> bool:
        """True where a list of texts is taken in place of a table."""
        return self.width is None and bool(self.documents)

    def shown(self) -> list[str]:
        """A name for each column: those of scikit-learn where there are none."""
        return self.names or [f"x{place}" for place in range(self.width or 0)]

    def texts_seen(self) -> dict[str, str]:
        """A text of the training for each column that has some: a made-up one may be refused."""
        names = self.shown()
        return {names[place]: self.examples[place] for place in sorted(self.texts) if place < len(names)}

    def datatype(self, place: int) -> Datatype:
        """That of a column."""
        return Datatype.BYTES if place in self.texts or place in self.documents else Datatype.FP64


def columns_of(file: str, estimator: Any) -> Columns:
    """What an estimator takes. Raises TargetError for one that takes no arrays, or the names of files."""
    for part in _parts(estimator):
        if hasattr(part, "build_analyzer") and part.input != "content":
            raise TargetError(f"{file} reads files that requests name", 'fit it with input="content"')
    width = getattr(estimator, "n_features_in_", None)
    names = getattr(estimator, "feature_names_in_", ())
    if hasattr(estimator, "get_cat_feature_indices"):  # catboost, which numbers columns without a name
        names, width = estimator.feature_names_, len(estimator.feature_names_)
        names = () if names == [str(place) for place in range(width)] else names
    columns = Columns([str(name) for name in names], width)
    columns.is_flat = width is None and not hasattr(estimator, "predict") and hasattr(estimator, "classes_")
    if columns.is_flat:
        _see(columns, 0, estimator.classes_)
    _look(file, estimator, [0] if width is None else list(range(width)), columns)
    return columns


def _look(file: str, part: Any, places: list[int], columns: Columns) -> bool:
    """Add what a part tells of its columns; False if it knows no values, as those that come after it may."""
    counted = getattr(part, "n_features_in_", 0) or len(places)  # 0 in a catboost that was unpickled
    if part is None or part == "drop" or counted != len(places):
        return False
    if type(part).__name__ in _NO_ARRAYS:
        raise TargetError(
            f"{file} takes {_NO_ARRAYS[type(part).__name__]}, by its {type(part).__name__}, which are no arrays",
            "write a Python class that makes them of arrays, and calls the estimator",
        )
    if hasattr(part, "_transformer_to_input_indices"):  # a ColumnTransformer
        chosen = part._transformer_to_input_indices  # noqa: SLF001 - places of slices, masks and names alike
        for name, transformer, _ in part.transformers_:
            _look(file, transformer, [places[place] for place in chosen[name]], columns)
        return True
    if hasattr(part, "steps"):
        return any(_look(file, step, places, columns) for _, step in part.steps)
    columns.used.update(places)
    if hasattr(part, "build_analyzer"):
        columns.documents.update(places)
        return True
    inner = [_look(file, estimator, places, columns) for estimator in _inner(part)]
    return _see_values(part, places, columns) or any(inner)


def _inner(part: Any) -> Iterator[Any]:
    for name in _ONE:
        if hasattr(getattr(part, name, None), "get_params"):
            yield getattr(part, name)
    for name in _SEVERAL:
        found = getattr(part, name, ())
        for estimator in found.ravel().tolist() if hasattr(found, "ravel") else found:
            yield estimator.estimator if name == _SEVERAL[1] else estimator
    for _, estimator in getattr(part, _PAIRS, ()):
        yield estimator


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator, and all that it is made of."""
    yield estimator
    for part in _made_of(estimator):
        yield from _parts(part)


def _made_of(estimator: Any) -> list[Any]:
    steps = [step for _, step in getattr(estimator, "steps", ())]
    columns = [transformer for _, transformer, _ in getattr(estimator, "transformers_", ())]
    final = getattr(estimator, "final_estimator_", None)
    return [*steps, *columns, *_inner(estimator), *([] if final is None else [final])]


def set_threads(estimator: Any, threads: int) -> None:
    """Forests, and what is made of no other estimators, may use these threads.

    What is made of others runs them in turn: two threads take four times as long for a row of three columns, and the
    processes that joblib starts by itself fifteen times.
    """
    for part in _parts(estimator):
        if hasattr(part, "n_jobs"):
            is_parallel = not _made_of(part) or type(part).__module__ == "sklearn.ensemble._forest"
            part.n_jobs = threads if is_parallel else 1


def _see_values(part: Any, places: list[int], columns: Columns) -> bool:
    """What encoders, imputers and forests keep of the values of the training."""
    if hasattr(part, "categories_"):
        for place, values in zip(places, part.categories_, strict=False):
            _see(columns, place, values)
        return True
    if hasattr(part, "get_cat_feature_indices"):  # catboost
        for place in part.get_cat_feature_indices() + part.get_text_feature_indices():
            columns.documents.add(places[place])
    if columns.names and hasattr(part, "get_booster"):
        booster = part.get_booster()
        _see_categories(columns, places, booster.feature_names or (), xgboost.categories_of(booster))
    elif columns.names and hasattr(part, "booster_"):
        booster = type(part.booster_)(model_str=part.booster_.model_to_string())  # an unpickled one has no parameters
        _see_categories(columns, places, booster.feature_name(), lightgbm.categories_of(booster))
    elif getattr(getattr(part, "statistics_", None), "dtype", None) == object:  # noqa: E721 - a SimpleImputer of texts
        for place, value in zip(places, part.statistics_, strict=True):
            if isinstance(value, str):
                columns.missing.setdefault(place, part.missing_values)
                _see(columns, place, [value])
    return False


def _see_categories(
    columns: Columns, places: list[int], names: Sequence[str], known: Mapping[str, Sequence[Any]]
) -> None:
    for place, name in zip(places, names, strict=False):
        if name in known:
            columns.categories[place] = known[name]
            _see(columns, place, known[name])


def _see(columns: Columns, place: int, values: Any) -> None:
    plain = [value for value in values if value is not None and value == value]  # noqa: PLR0124 - NaN
    if any(isinstance(value, str) for value in plain):
        columns.texts.add(place)
        if "" in plain:
            columns.missing.setdefault(place, "")
        elif any(value is None for value in values):
            columns.missing.setdefault(place, None)
    if plain:
        columns.examples.setdefault(place, plain[0])


def inputs_of(columns: Columns, declared: Sequence[DeclaredTensor] | None) -> list[FileTensor]:
    """One matrix where all is of one datatype, else an input for each column that is used.

    Declared columns are inputs of their own, and of the declared datatype: the estimator does not know it better.
    """
    if columns.is_documents:
        return [FileTensor(TEXT, Datatype.BYTES, (_BATCH,))]
    if columns.is_flat:
        kind = Datatype.BYTES if columns.texts else Datatype.INT64
        return [FileTensor(MATRIX, kind, (_BATCH,))]
    names = columns.shown()
    said = {tensor.name: tensor.datatype for tensor in declared or () if tensor.name in names}
    if not said:
        datatypes = {columns.datatype(place) for place in range(columns.width or 0)}
        if columns.width is None or (len(columns.used) == columns.width and _is_matrix(columns, datatypes)):
            return matrix_input(columns.width, datatypes.pop() if datatypes else Datatype.FP64)
    places = [place for place in range(columns.width or 0) if place in columns.used or names[place] in said]
    kinds = [said.get(names[place]) or columns.datatype(place) for place in places]
    return column_inputs([names[place] for place in places], kinds)


def _is_matrix(columns: Columns, datatypes: set[Datatype]) -> bool:
    if columns.names:
        return datatypes == {Datatype.FP64} and not columns.categories
    return len(datatypes) == 1


def rows_of(columns: Columns) -> Callable[[Mapping[str, Any]], Any]:
    """The function from arrays to what the estimator takes: a data frame, if it was fitted on one."""
    import numpy as np

    names = columns.shown()

    def table(arrays: Mapping[str, Any]) -> Any:
        if columns.is_documents:
            return texts(TEXT, arrays[TEXT]).tolist()
        matrix = arrays.get(MATRIX)
        if columns.is_flat:
            return texts(MATRIX, matrix) if columns.texts else matrix
        if matrix is not None and matrix.ndim == 2:  # and no column of this name
            if not columns.names and matrix.dtype != object:
                return matrix
            arrays = dict(zip(names, matrix.T, strict=True))
        rows = len(next(iter(arrays.values())))
        unused = np.full(rows, _NAN)
        found = {
            name: _column(columns, place, arrays[name]) if name in arrays else unused
            for place, name in enumerate(names)
        }
        if columns.names:
            import pandas as pd

            return pd.DataFrame(found)
        return np.stack([np.asarray(array, object) for array in found.values()], axis=1)

    return table


def _column(columns: Columns, place: int, array: Any) -> Any:
    """The values of a column: an empty text is a missing one, where the training did not have it as a text."""
    if array.dtype == object:
        array = texts(columns.shown()[place], array)
        missing = columns.missing.get(place, _NAN)
        if place in columns.texts and place not in columns.documents and missing != "":
            array[array == ""] = missing
            if missing is None:  # which pandas takes for NaN among texts
                import pandas as pd

                return pd.Series(array, dtype=object)
    if place in columns.categories:
        import pandas as pd

        return pd.Categorical(array, columns.categories[place])
    return array


def answers_of(estimator: Any, rows: Any) -> dict[str, Any]:
    """All that an estimator says of rows, by the names of the outputs."""
    if not hasattr(estimator, "predict"):
        return {TRANSFORMED: _dense(estimator.transform(rows))}
    found = _dense(estimator.predict(rows))
    if not _has_labels(estimator):
        return {PREDICTION: found}
    classes = _classes(estimator)
    if found.ndim == 2 and found.shape[1] == 1 and len(classes) == 1:  # a column of catboost
        found = found[:, 0]
    answers = {LABEL: found}
    if hasattr(estimator, "predict_proba"):
        odds = estimator.predict_proba(rows)
        if isinstance(odds, list):  # an array for each of several targets
            answers.update((f"{PROBABILITIES}_{place}", _dense(each)) for place, each in enumerate(odds))
        else:
            answers[PROBABILITIES] = _dense(odds)
    return answers


def _dense(found: Any) -> Any:
    import numpy as np

    return np.asarray(found.toarray() if hasattr(found, "toarray") else found)


def _has_labels(estimator: Any) -> bool:
    from sklearn.base import is_classifier, is_clusterer

    try:
        if is_classifier(estimator) or is_clusterer(estimator):
            return True
    except (AttributeError, TypeError):  # it is of another package
        pass
    return bool(_classes(estimator)) or hasattr(estimator, "predict_proba")


def _classes(estimator: Any) -> list[list[Any]]:
    """Those of each target; of none where there are no classes."""
    classes = getattr(estimator, "classes_", None)
    if classes is None or len(classes) == 0:
        return []
    return [labels_of(each) for each in classes] if isinstance(classes, list) else [labels_of(classes)]


def labels_in(estimator: Any) -> dict[str, list[Any]]:
    """What stands in the outputs by its place."""
    classes = _classes(estimator) if hasattr(estimator, "predict_proba") else []
    if isinstance(getattr(estimator, "classes_", None), list):
        return {f"{PROBABILITIES}_{place}": labels for place, labels in enumerate(classes)}
    return {PROBABILITIES: classes[0]} if classes else {}


def outputs_of(
    file: str, estimator: Any, columns: Columns, inputs: Sequence[FileTensor], *, is_strict: bool
) -> list[FileTensor]:
    """The outputs as they are for one row of these inputs.

    Raises TargetError for what is not fitted, and, if it `is_strict`, the AttributeError of an estimator of another
    version.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        if type(estimator).__module__.startswith("sklearn."):
            check_is_fitted(estimator)
    except NotFittedError:
        raise TargetError(
            f"{file} holds a {type(estimator).__name__} that is not fitted", "call fit before it is saved"
        ) from None
    classes = _classes(estimator)
    if columns.width is None and not columns.is_documents and not columns.is_flat:
        return _guessed(estimator, classes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = answers_of(estimator, rows_of(columns)(_example(columns, inputs)))
    except Exception as error:
        if is_strict and isinstance(error, AttributeError):
            raise
        return _guessed(estimator, classes)
    return [
        FileTensor(name, _datatype(name, array, classes), (_BATCH, *array.shape[1:])) for name, array in found.items()
    ]


def _example(columns: Columns, inputs: Sequence[FileTensor]) -> dict[str, Any]:
    """One row, of values that the training had where they are known."""
    import numpy as np

    def filled(datatype: Datatype | None, places: Sequence[int]) -> Any:
        if datatype in (None, Datatype.BYTES):
            return np.array([str(columns.examples.get(place, "a")).encode() for place in places], object)
        return np.array([columns.examples.get(place, 0) for place in places]).astype(datatype.numpy_name)

    if inputs[0].shape == (_BATCH, columns.width):
        return {MATRIX: filled(inputs[0].datatype, range(columns.width or 0))[None]}
    places = {name: place for place, name in enumerate(columns.shown())}
    return {tensor.name: filled(tensor.datatype, [places.get(tensor.name, 0)]) for tensor in inputs}


def _guessed(estimator: Any, classes: list[list[Any]]) -> list[FileTensor]:
    """Without the datatypes of what each call may answer otherwise."""
    if not hasattr(estimator, "predict"):
        return [FileTensor(TRANSFORMED, None, (_BATCH, -1))]
    if not _has_labels(estimator):
        return [FileTensor(PREDICTION, None, (_BATCH,))]
    labels = classes[0] if len(classes) == 1 else None
    return classifier_outputs(labels, Datatype.FP64 if hasattr(estimator, "predict_proba") else None)


def _datatype(name: str, array: Any, classes: list[list[Any]]) -> Datatype:
    if name == LABEL:
        # Of several targets an array has one datatype, and an indicator of many labels is of numbers.
        known = array.ravel() if array.ndim > 1 or not classes else classes[0]
        return Datatype.BYTES if any(isinstance(label, str) for label in labels_of(known)) else Datatype.INT64
    if array.dtype.kind in _TEXT_KINDS:
        return Datatype.BYTES
    kinds = {"b": Datatype.BOOL, "i": Datatype.INT64, "u": Datatype.INT64}
    return kinds.get(array.dtype.kind, Datatype.FP64) if name == TRANSFORMED else Datatype.FP64
