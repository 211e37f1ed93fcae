"""Runtime of scikit-learn estimators: skops archives, and pickles of joblib where they are trusted.

A fitted estimator knows its features and classes: https://scikit-learn.org/stable/developers/develop.html
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from samovar.errors import InvalidInputError, TargetError, UnsafeFormatError, text_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.contents import ZIP, foreign, peek, starts_as_pickle, zip_names
from samovar.runtimes.estimators import (
    Columns,
    answers_of,
    columns_of,
    inputs_of,
    labels_in,
    outputs_of,
    rows_of,
    set_threads,
)
from samovar.runtimes.files import FileModel, check_options, check_trust, describe, imported, runtime_options
from samovar.runtimes.tensors import signature_of
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
_COMPRESSED = (".gz", ".z", ".bz2", ".xz", ".lzma")  # what joblib calls them
_READ_BY_JOBLIB = ("a Python pickle", "compressed by", "a text that begins")  # the first pickles are texts
_SAVE_SKOPS = "fetch the file again, or save the model with skops.io.dump"
_BOOSTERS = {"xgboost": "save_model('model.ubj')", "lightgbm": "save_model('model.txt')"}
# What skops 0.16 does not know of scikit-learn 1.9: classes that are data alone at a load, and functions that compute.
# By name, since others of these modules may read files.
_KNOWN: dict[str, tuple[str, ...]] = {
    "functools": ("partial",),  # of a function that is looked at, too
    "numpy": ("dtype", "mean", "number"),
    "scipy._lib.array_api_compat.numpy._aliases": ("asarray",),
    "scipy.interpolate._bsplines": ("BSpline",),
    "scipy.sparse._csr": ("csr_matrix",),
    "sklearn._loss.loss": ("HalfTweedieLossIdentity",),
    "sklearn.calibration": ("_CalibratedClassifier", "_SigmoidCalibration"),
    "sklearn.cluster._bisect_k_means": ("_BisectingTree",),
    "sklearn.cluster._kmeans": ("_kmeans_single_elkan", "_kmeans_single_lloyd"),
    "sklearn.compose._column_transformer": ("make_column_selector",),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "sklearn.feature_selection._mutual_info": ("mutual_info_classif", "mutual_info_regression"),
    "sklearn.feature_selection._univariate_selection": ("chi2", "f_classif", "f_regression"),
    "sklearn.gaussian_process._gpc": ("_BinaryGaussianProcessClassifierLaplace",),
    "sklearn.gaussian_process.kernels": (
        *("CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation", "Matern"),
        *("PairwiseKernel", "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel"),
    ),
    "sklearn.metrics._classification": (
        *("accuracy_score", "balanced_accuracy_score", "f1_score", "log_loss", "matthews_corrcoef"),
        *("precision_score", "recall_score"),
    ),
    "sklearn.metrics._dist_metrics": (
        *("ChebyshevDistance64", "EuclideanDistance64", "HaversineDistance64", "ManhattanDistance64"),
        "MinkowskiDistance64",
    ),
    "sklearn.metrics._ranking": ("average_precision_score", "roc_auc_score"),
    "sklearn.metrics._regression": (
        *("mean_absolute_error", "mean_squared_error", "median_absolute_error", "r2_score", "root_mean_squared_error"),
    ),
    "sklearn.metrics._scorer": ("_CurveScorer", "_PassthroughScorer", "_Scorer"),
    "sklearn.model_selection._split": (
        *("GroupKFold", "KFold", "LeaveOneOut", "RepeatedKFold", "RepeatedStratifiedKFold", "ShuffleSplit"),
        *("StratifiedKFold", "StratifiedShuffleSplit", "TimeSeriesSplit"),
    ),
    "sklearn.multiclass": ("_ConstantPredictor",),
    "sklearn.neighbors._ball_tree": ("BallTree",),
    "sklearn.neighbors._kd_tree": ("KDTree",),
    "sklearn.neural_network._stochastic_optimizers": ("AdamOptimizer", "SGDOptimizer"),
    "sklearn.tree._tree": ("Tree",),
    "sklearn.utils._bunch": ("Bunch",),
    "sklearn.utils._metadata_requests": ("MetadataRequest", "MethodMetadataRequest"),
    "sklearn.utils.validation": ("check_array",),
}


def recognise(path: Path) -> Sure:
    """Zip archives with the schema of skops, and pickles."""
    if "schema.json" in zip_names(path):
        return Sure.CERTAIN
    if starts_as_pickle(peek(path)):
        return Sure.LIKELY
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return Sure.NAME if suffixes[-1:] and suffixes[-1] in (*_PICKLES, ".skops") else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe a fitted estimator. Raises TargetError, ConfigError, or UnsafeFormatError for a pickle."""
    path = question.path
    runtime_options(question, {})
    if not _is_archive(path):
        check_pickle(question)
    estimator, older = _loaded(path, question.name or path.stem, is_trusted=bool(question.declared.trust))
    try:
        return [_description(question, estimator, older)]
    except AttributeError as error:  # what its classes have got since
        if older is None:
            raise
        raise TargetError(
            f"{path.name} is {older}, with which it does not work: {text_of(error)}",
            "install the version that saved it, or fit it again",
        ) from None


def _description(question: Question, estimator: Any, older: str | None) -> dict[str, Any]:
    path = question.path
    columns = _columns(path, estimator)
    inputs = inputs_of(columns, question.declared.inputs)
    outputs = outputs_of(path.name, estimator, columns, inputs, is_strict=older is not None)
    signature = signature_of(path.name, inputs, outputs, question.declared)
    labels, examples = labels_in(estimator), columns.texts_seen()
    return describe(
        question,
        "sklearn",
        signature,
        question.declared.options,
        IMPORTS,
        read_from=f"the fitted {type(estimator).__name__}",
        columns=columns.names,
        **({"labels": labels} if labels else {}),
        **({"examples": examples} if examples else {}),
        **({"note": f"it is {older}: answers may differ"} if older else {}),
        **({"trusted": True} if question.declared.trust else {}),
    )


def load(spec: dict[str, Any]) -> FileModel:
    """Load an estimator. Raises TargetError or ConfigError."""
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    estimator = estimator_of(path, spec["name"], is_trusted=spec["source"].get("trusted", False))
    signature = Signature.from_json(spec)
    columns = _columns(path, estimator)
    return FileModel(signature, _run(estimator, signature, columns, spec["options"]["threads"]))


def _run(estimator: Any, signature: Signature, columns: Columns, threads: int) -> Callable[[dict[str, Any]], Any]:
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)  # of this process, for good
    set_threads(estimator, threads)
    rows = rows_of(columns)
    datatypes = {tensor.name: tensor.datatype for tensor in signature.outputs}

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        try:
            with parallel_config(backend="threading"):  # where somebody's own class asks joblib, which starts processes
                found = answers_of(estimator, rows(inputs))
        except ValueError as error:  # an unknown category, a missing value
            reason = text_of(error).partition("\n")[0].rstrip(".")
            raise InvalidInputError(reason, "send what the model was fitted to take") from error
        return {name: _typed(array, datatypes[name]) for name, array in found.items() if name in datatypes}

    return run


def _columns(path: Path, estimator: Any) -> Columns:
    columns = columns_of(path.name, estimator)
    if columns.names:
        imported("pandas", ABOUT)
    return columns


def _typed(found: Any, datatype: Datatype | None) -> Any:
    """What the estimator gives, as the signature has it: texts as bytes."""
    import numpy as np

    if datatype is Datatype.BYTES or (datatype is None and found.dtype.kind in "OUS"):
        encoded = [str(value).encode() for value in found.ravel()]
        return np.array(encoded, "S" if datatype is None else object).reshape(found.shape)
    return np.ascontiguousarray(found, None if datatype is None else datatype.numpy_name)


def _is_archive(path: Path) -> bool:
    """True for an archive of skops. Raises TargetError for one that is damaged, or another's."""
    if "schema.json" in zip_names(path):
        return True
    start = peek(path)
    if start.startswith(ZIP):
        kind = "a zip archive without the schema.json of skops" if zip_names(path) else "a zip archive that is cut"
        raise TargetError(f"{path.name} is {kind}", _SAVE_SKOPS)
    if path.suffix.lower() == ".skops" and not starts_as_pickle(start):
        raise foreign(path) or TargetError(f"{path.name} is no archive of skops", _SAVE_SKOPS)
    return False


def check_pickle(question: Question) -> None:
    """Raise TargetError for a file that is no pickle, and UnsafeFormatError for one that is not trusted."""
    fault = foreign(question.path)
    if fault is not None and not any(word in fault.message for word in _READ_BY_JOBLIB):
        raise TargetError(f"{fault.message}, no scikit-learn model", fault.next_step)
    check_trust(question, "a Python pickle", "save it with skops.io.dump")


def estimator_of(path: Path, name: str, *, is_trusted: bool) -> Any:
    """The fitted object of a file. Raises TargetError or UnsafeFormatError."""
    return _loaded(path, name, is_trusted=is_trusted)[0]


def _loaded(path: Path, name: str, *, is_trusted: bool) -> tuple[Any, str | None]:
    """The fitted object of a file, and of which version it is where that is not the installed one."""
    imported("sklearn", ABOUT)
    is_skops = _is_archive(path)
    if not is_skops and not is_trusted:  # it was skops, perhaps, when it was inspected
        raise UnsafeFormatError(
            f"unsafe_format: {path.name} is a Python pickle, and its model is not trusted", "save it with skops.io.dump"
        )
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = _from_skops(path, name, is_trusted=is_trusted) if is_skops else _from_pickle(path)
    except TargetError:
        raise
    except (AttributeError, ImportError) as error:
        raise TargetError(
            f"{path.name} cannot be loaded: {text_of(error)}",
            "install what it was made with, or put it on PYTHONPATH; classes and functions of a script belong into a "
            "module, and the model is to be saved again",
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__} {text_of(error)}".partition("\n")[0].strip()
        raise TargetError(
            f"{path.name} cannot be loaded: it is cut or damaged, or scikit-learn {_installed()} does not read its "
            f"version: {reason}",
            "fetch the file again, or save it by the scikit-learn that is installed",
        ) from error
    kind = type(found)
    if kind.__module__.partition(".")[0] in _BOOSTERS and kind.__name__ == "Booster":
        raise TargetError(
            f"{path.name} holds a Booster of {kind.__module__.partition('.')[0]}, no estimator",
            f"{_BOOSTERS[kind.__module__.partition('.')[0]]} writes a file that is served, and safe",
        )
    if not hasattr(found, "predict") and not hasattr(found, "transform"):
        raise TargetError(
            f"{path.name} holds {kind.__name__}, which has neither predict nor transform",
            "save the fitted estimator, or write a Python class that loads the file",
        )
    return found, _older(told)


def _installed() -> str:
    return str(imported("sklearn", ABOUT).__version__)


def _older(told: Sequence[warnings.WarningMessage]) -> str | None:
    """Each part of an estimator warns of its version; what else was told of goes its way."""
    from sklearn.exceptions import InconsistentVersionWarning

    versions = []
    for warning in told:
        if isinstance(warning.message, InconsistentVersionWarning):
            versions.append(warning.message.original_sklearn_version)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return f"of scikit-learn {versions[0]}, and {_installed()} is installed" if versions else None


def _from_skops(path: Path, name: str, *, is_trusted: bool) -> Any:
    io = imported("skops.io", ABOUT)
    wanted = io.get_untrusted_types(file=path)
    unknown = [kind for kind in wanted if kind.rpartition(".")[2] not in _KNOWN.get(kind.rpartition(".")[0], ())]
    if unknown and not is_trusted:
        raise UnsafeFormatError(
            f"unsafe_format: {path.name} holds {', '.join(unknown[:3])}, which skops does not know to be safe",
            f"if you trust who made it, start with --trust {name}, or write trust = true in samovar.toml",
        )
    return io.load(path, trusted=wanted)


def _from_pickle(path: Path) -> Any:
    return imported("joblib", ABOUT).load(path)
