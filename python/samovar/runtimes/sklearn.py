"""Runtime of scikit-learn estimators: skops archives, and pickles of joblib where they are trusted.

A fitted estimator knows its features and classes: https://scikit-learn.org/stable/developers/develop.html
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from samovar.errors import TargetError, UnsafeFormatError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import foreign, peek, starts_as_pickle, zip_names
from samovar.runtimes.files import FileModel, check_options, check_trust, describe, imported
from samovar.runtimes.tables import (
    LABEL,
    MATRIX,
    PROBABILITIES,
    classifier_outputs,
    column_inputs,
    labels_of,
    matrix_input,
    texts,
)
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "estimator_of", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "sklearn")
ABOUT = About(
    "scikit-learn models",
    extra="sklearn",
    recognised_by="zip archive with schema.json (skops); the first bytes of a pickle",
    signature_from="features and classes of the fitted estimator",
    safety="skops: safe, unknown types are refused; pickles: --trust",
)

_PICKLES = (".pkl", ".pickle", ".joblib")
# What skops 0.16 does not know of scikit-learn 1.9 and is data alone, at a load, all the same.
_KNOWN_TYPES = frozenset(
    {"sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"}
)


def recognise(path: Path) -> Sure:
    """Zip archives with the schema of skops, and pickles."""
    if "schema.json" in zip_names(path):
        return Sure.CERTAIN
    if starts_as_pickle(peek(path)):
        return Sure.LIKELY
    return Sure.NAME if path.suffix.lower() in (*_PICKLES, ".skops") else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a fitted estimator. Raises TargetError, ConfigError, or UnsafeFormatError for a pickle."""
    path = question.path
    is_pickle = "schema.json" not in zip_names(path)
    if is_pickle:
        check_trust(question, "a Python pickle", "save it with skops.io.dump")
    estimator = estimator_of(path, question.name or path.stem, is_trusted=bool(question.declared.trust))
    columns, datatypes = _columns(estimator)
    if Datatype.BYTES in datatypes:
        inputs = column_inputs(columns, datatypes)
    else:
        inputs = matrix_input(getattr(estimator, "n_features_in_", None), Datatype.FP64)
    labels = _labels(estimator)
    signature = signature_of(path.name, inputs, _outputs(estimator, labels, columns, datatypes), question.declared)
    kind = type(estimator).__name__
    return [
        describe(
            question,
            "sklearn",
            signature,
            question.declared.options,
            IMPORTS,
            read_from=f"the fitted {kind}",
            columns=columns,
            **({"labels": {PROBABILITIES: labels}} if labels is not None else {}),
            **({"trusted": True} if question.declared.trust else {}),
        )
    ]


def load(spec: dict[str, Any]) -> FileModel:
    """Load an estimator. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    estimator = estimator_of(path, spec["name"], is_trusted=spec["source"].get("trusted", False))
    signature = Signature.from_json(spec)
    return FileModel(signature, _run(estimator, signature, spec["source"]["columns"], spec["options"]["threads"]))


def _run(estimator: Any, signature: Signature, columns: list[str], threads: int) -> Callable[[dict[str, Any]], Any]:
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)  # of this process, for good
    for part in (estimator, *[step for _, step in getattr(estimator, "steps", [])]):
        if "n_jobs" in getattr(part, "get_params", dict)():
            part.set_params(n_jobs=threads)
    table = _framed(columns) if columns else _matrix
    outputs = {tensor.name: tensor for tensor in signature.outputs}
    functions: dict[str, Callable[[Any], Any]] = {
        name: _typed(getattr(estimator, method), outputs[name].datatype) for name, method in _METHODS if name in outputs
    }

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        rows = table(inputs)
        return {name: function(rows) for name, function in functions.items()}

    return run


_METHODS = (
    (LABEL, "predict"),
    ("prediction", "predict"),
    (PROBABILITIES, "predict_proba"),
    ("transformed", "transform"),
)


def _typed(method: Callable[[Any], Any], datatype: Datatype | None) -> Callable[[Any], Any]:
    """What the method gives, as the signature has it: texts as bytes."""
    import numpy as np

    def call(rows: Any) -> Any:
        found = method(rows)
        found = np.asarray(found.toarray() if hasattr(found, "toarray") else found)
        if datatype is Datatype.BYTES:
            return np.array([str(value).encode() for value in found.ravel()], object).reshape(found.shape)
        return np.ascontiguousarray(found, None if datatype is None else datatype.numpy_name)

    return call


def _matrix(inputs: dict[str, Any]) -> Any:
    return inputs[MATRIX]


def _framed(columns: list[str]) -> Callable[[dict[str, Any]], Any]:
    """An estimator that was fitted on columns with names wants them again, by pandas."""
    pandas = imported("pandas", ABOUT)

    def framed(inputs: dict[str, Any]) -> Any:
        if MATRIX in inputs and len(inputs) == 1:
            return pandas.DataFrame(inputs[MATRIX], columns=columns)
        arrays = {name: texts(name, array) if array.dtype == object else array for name, array in inputs.items()}
        return pandas.DataFrame(arrays)[columns]

    return framed


def estimator_of(path: Path, name: str, *, is_trusted: bool) -> Any:
    """The fitted object of a file. Raises TargetError or UnsafeFormatError."""
    imported("sklearn", ABOUT)
    is_skops = "schema.json" in zip_names(path)
    if not is_skops and not is_trusted:  # it was skops, perhaps, when it was inspected
        raise UnsafeFormatError(
            f"unsafe_format: {path.name} is a Python pickle, and its model is not trusted", "save it with skops.io.dump"
        )
    try:
        found = _from_skops(path, name, is_trusted=is_trusted) if is_skops else _from_pickle(path)
    except TargetError:
        raise
    except Exception as error:
        fault = foreign(path)
        if fault is not None and "pickle" not in fault.message and "zip" not in fault.message:
            raise TargetError(f"{fault.message}, no scikit-learn model", fault.next_step) from None
        raise TargetError(f"{path.name} cannot be loaded: {text_of(error)}", "save the model again") from error
    if not hasattr(found, "predict") and not hasattr(found, "transform"):
        raise TargetError(
            f"{path.name} holds {type(found).__name__}, which has neither predict nor transform",
            "save the fitted estimator, or write a Python class that loads the file",
        )
    return found


def _from_skops(path: Path, name: str, *, is_trusted: bool) -> Any:
    io = imported("skops.io", ABOUT)
    wanted = io.get_untrusted_types(file=path)
    unknown = [name for name in wanted if name not in _KNOWN_TYPES]
    if unknown and not is_trusted:
        raise UnsafeFormatError(
            f"unsafe_format: {path.name} holds {', '.join(unknown[:3])}, which skops does not know to be safe",
            f"if you trust who made it, start with --trust {name}, or write trust = true in samovar.toml",
        )
    return io.load(path, trusted=wanted)


def _from_pickle(path: Path) -> Any:
    return imported("joblib", ABOUT).load(path)


def _columns(estimator: Any) -> tuple[list[str], list[Datatype]]:
    """Names and datatypes of the columns: none where it was fitted on an array."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return [], []
    columns = [str(name) for name in names]
    is_text = dict.fromkeys(columns, False)
    steps = [step for _, step in getattr(estimator, "steps", [(None, estimator)])]
    for _, transformer, chosen in getattr(steps[0], "transformers_", ()):
        parts = [part for _, part in getattr(transformer, "steps", [(None, transformer)])]
        categories = next((part.categories_ for part in parts if hasattr(part, "categories_")), ())
        for name, values in zip(chosen, categories, strict=False):
            is_text[columns[name] if isinstance(name, int) else str(name)] = values.dtype.kind in "OUST"
    return columns, [Datatype.BYTES if is_text[name] else Datatype.FP64 for name in columns]


def _labels(estimator: Any) -> list[Any] | None:
    classes = getattr(estimator, "classes_", None)
    is_plain = classes is not None and getattr(classes, "ndim", 0) == 1 and hasattr(estimator, "predict")
    return labels_of(classes) if is_plain else None


def _outputs(
    estimator: Any, labels: list[Any] | None, columns: list[str], datatypes: list[Datatype]
) -> list[FileTensor]:
    if labels is not None:
        has_probabilities = hasattr(estimator, "predict_proba")
        return classifier_outputs(labels, Datatype.FP64 if has_probabilities else None)
    if not hasattr(estimator, "predict"):
        return [FileTensor("transformed", Datatype.FP64, ("batch", -1))]
    if hasattr(estimator, "cluster_centers_") or hasattr(estimator, "labels_"):
        return [FileTensor(LABEL, Datatype.INT64, ("batch",))]
    return [FileTensor("prediction", Datatype.FP64, ("batch", *_targets(estimator, columns, datatypes)))]


def _targets(estimator: Any, columns: list[str], datatypes: list[Datatype]) -> tuple[int, ...]:
    """The shape of what a regressor gives for a row, by asking it once: each class of them names that otherwise."""
    import numpy as np

    if Datatype.BYTES in datatypes or not hasattr(estimator, "n_features_in_"):
        return ()  # a row of which texts would it take
    row = np.zeros((1, estimator.n_features_in_))
    shape = np.shape(estimator.predict(_framed(columns)({MATRIX: row}) if columns else row))
    return tuple(int(length) for length in shape[1:])
