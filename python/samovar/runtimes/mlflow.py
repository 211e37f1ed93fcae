"""Runtime of MLflow model folders: the file of a flavour is run by the runtime of its format.

A model that is Python code alone, or of a flavour whose format is none of ours, is run by mlflow.pyfunc where it is
trusted. The folder: https://mlflow.org/docs/latest/ml/model/
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from samovar.config.declared import BATCH, Declared, DeclaredTensor
from samovar.errors import InvalidInputError, TargetError, text_of
from samovar.runtimes import About, LoadedModel, Question, Sure
from samovar.runtimes.files import FileModel, check_options, check_trust, describe, imported, runtime_options
from samovar.runtimes.packages import first_level, inspect_part, load_part, part_of
from samovar.runtimes.tables import texts
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.types import Datatype, Signature

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy", "mlflow")  # of models of Python code; a flavour's runtime has its own
ABOUT = About(
    "MLflow models",
    extra="mlflow",
    recognised_by="folder with MLmodel",
    signature_from="the flavour's own file, completed by the signature in MLmodel",
    safety="that of the flavour's file; Python code (pyfunc): --trust",
)

_FILE = "MLmodel"
_CODE = "python_function"
# The keys by which flavours name their file or folder: mlflow/<flavour>/__init__.py, save_model.
_PLACES = ("data", "pickled_model", "model_data", "saved_model_dir", "model_binary", "keras_model", "model_path")
_COLUMNS = {
    "boolean": Datatype.BOOL,
    "integer": Datatype.INT32,
    "long": Datatype.INT64,
    "float": Datatype.FP32,
    "double": Datatype.FP64,
    "string": Datatype.BYTES,
    "binary": Datatype.BYTES,
    "datetime": Datatype.BYTES,  # as ISO 8601 has it
}
_NO_NUMBERS = (Datatype.BOOL, Datatype.BYTES)
_TEXTS = ("str", "object", "bytes")
_UNNAMED = {"inputs": "x", "outputs": "prediction"}
_SIGN = "log it with signature=mlflow.models.infer_signature(inputs, outputs)"


def recognise(path: Path) -> Sure:
    """Folders with a file MLmodel that lists flavours."""
    if "flavors" in first_level(path / _FILE):
        return Sure.CERTAIN
    return Sure.NAME if (path / _FILE).is_file() else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of a folder. Raises TargetError, ConfigError, or UnsafeFormatError for code."""
    folder = question.path
    content = _content(folder)
    flavors = content["flavors"]
    said = _Said(folder, content)
    for name, flavor in flavors.items():
        part = part_of(folder, _places(folder, flavor)) if name != _CODE else None
        if part is not None:
            question = _with_task(question, flavor) if name == "transformers" else question
            declared = Declared(inputs=said.declared("inputs"), outputs=said.declared("outputs"))
            models = inspect_part(question, "mlflow", part, declared, f"{_FILE}, flavour {name}")
            if _knows_columns(models[0], declared.inputs):
                question = replace(question, declared=question.declared.over(Declared(inputs=declared.inputs)))
                models = inspect_part(question, "mlflow", part, declared, f"{_FILE}, flavour {name}")
            return models
    _check_complete(folder, flavors)
    return [_described_code(question, flavors, said)]


def load(spec: dict[str, Any]) -> LoadedModel:
    """Load the file of the flavour, or the Python code. Raises TargetError or ConfigError."""
    if spec["source"]["inner"] != "mlflow":
        return load_part(spec)
    path = Path(spec["source"]["path"])
    check_options(path, spec["options"])
    if not spec["source"].get("trusted"):
        raise TargetError(f"{path.name} is Python code that is not trusted", "inspect it again")
    model = _loaded(path)
    signature = Signature.from_json(spec)
    return FileModel(signature, _run(model, signature, spec["source"]["takes"], spec["source"]["times"]))


def _with_task(question: Question, flavor: dict[str, Any]) -> Question:
    """The question with the task that the flavour of transformers names, where nobody declares another."""
    from samovar.runtimes.transformers.tasks import TASKS

    said = Declared(runtime_options={"task": flavor["task"]} if flavor.get("task") in TASKS else {})
    return replace(question, declared=question.declared.over(said))


def _content(folder: Path) -> dict[str, Any]:
    yaml = imported("yaml", ABOUT)
    try:
        content: Any = yaml.safe_load((folder / _FILE).read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = text_of(error).partition("\n")[0]
        raise TargetError(f"{_FILE} of {folder.name} cannot be read: {reason}", "log the model again") from None
    if isinstance(content, dict):
        flavors = content.get("flavors")
        if isinstance(flavors, dict) and all(isinstance(flavor, dict) for flavor in flavors.values()):
            return content
    raise TargetError(f"{_FILE} of {folder.name} has no flavors", "log the model again")


def _places(folder: Path, flavor: dict[str, Any]) -> list[Path]:
    """Where the file of a flavour may be: what it names, or in the folder that it names, where it is called model."""
    named = [folder / flavor[key] for key in _PLACES if isinstance(flavor.get(key), str)]
    return [place for path in named for place in (path, *sorted(path.glob("model*")))]


def _knows_columns(model: dict[str, Any], said: tuple[DeclaredTensor, ...] | None) -> bool:
    """True where MLmodel has datatypes of columns that an estimator of scikit-learn does not keep."""
    if said is None or model["source"]["inner"] != "sklearn":
        return False
    columns = set(model["source"]["columns"])
    is_table = model["inputs"][0]["name"] in columns or any(tensor.datatype in _NO_NUMBERS for tensor in said)
    return is_table and {tensor.name for tensor in said} <= columns


def _check_complete(folder: Path, flavors: dict[str, Any]) -> None:
    """Raise TargetError where a file is named that is not there."""
    for name, flavor in flavors.items():
        for key in _PLACES:
            place = flavor.get(key)
            if isinstance(place, str) and not (folder / place).exists():
                raise TargetError(
                    f"{_FILE} of {folder.name} names {place} as the model of its flavour {name}, which is not there",
                    "fetch the whole folder again",
                )


def _described_code(question: Question, flavors: dict[str, Any], said: "_Said") -> dict[str, Any]:
    """A model that mlflow.pyfunc runs."""
    folder = question.path
    names = ", ".join(flavors)
    if _CODE not in flavors:
        raise TargetError(
            f"{folder.name} has the flavours {names}, none with a file of a format that is served",
            "docs/formats.md lists those that are",
        )
    code = f"{names}; its loader {flavors[_CODE].get('loader_module')}"
    kind = f"an MLflow model without a file of a format that is served (flavours {code})"
    runtime_options(question, {})
    check_trust(question, kind, "log it with a flavour that has one: skops for scikit-learn, ONNX")
    signature = signature_of(
        folder.name, said.tensors("inputs", question), said.tensors("outputs", question), question.declared
    )
    return describe(
        question,
        "mlflow",
        signature,
        question.declared.options,
        IMPORTS,
        inner="mlflow",
        takes=said.takes,
        times=said.times(),
        read_from=f"{_FILE}, its signature",
        trusted=True,
    )


class _Said:
    """What MLmodel says of inputs and outputs: columns of a table, or tensors.

    https://mlflow.org/docs/latest/ml/model/signatures/
    """

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self._folder = folder
        signature = content.get("signature")
        self._specs = {kind: _specs(folder, signature, kind) for kind in _UNNAMED}
        inputs = self._specs["inputs"] or []
        self.takes = "array" if len(inputs) <= 1 else "tensors"
        """What pyfunc is called with: a "frame", one "array", or "tensors" in a dictionary."""
        if any("tensor-spec" not in spec for spec in inputs):
            self.takes = "frame"
        elif inputs and "name" in inputs[0]:
            self.takes = "tensors"

    def times(self) -> list[str]:
        """The columns that pandas wants as datetimes."""
        return [str(spec.get("name")) for spec in self._specs["inputs"] or () if spec.get("type") == "datetime"]

    def tensors(self, kind: str, question: Question) -> list[FileTensor]:
        """Inputs or outputs; those that are declared where MLmodel has none. Raises TargetError."""
        specs = self._specs[kind]
        if specs is not None:
            return [self._tensor(kind, spec) for spec in specs]
        declared = getattr(question.declared, kind)
        if declared is not None and (kind == "outputs" or len(declared) == 1):
            return [FileTensor(tensor.name) for tensor in declared]
        if kind == "outputs":
            return [FileTensor(_UNNAMED[kind])]
        raise TargetError(
            f"{_FILE} of {self._folder.name} has no signature",
            f'{_SIGN}, or declare the one array that it takes: inputs = [{{ name = "x", datatype = "FP64", '
            'shape = ["batch", 4] }] and outputs likewise in samovar.toml',
        )

    def declared(self, kind: str) -> tuple[DeclaredTensor, ...] | None:
        """The same for a flavour's own runtime; None where MLmodel says nothing, or what no tensor can be."""
        try:
            tensors = [self._tensor(kind, spec) for spec in self._specs[kind] or ()]
        except TargetError:
            return None
        shapes = [None if tensor.shape is None else _declared(tensor.shape) for tensor in tensors]
        found = (
            DeclaredTensor(tensor.name, tensor.datatype, shape) for tensor, shape in zip(tensors, shapes, strict=True)
        )
        return tuple(found) or None

    def _tensor(self, kind: str, spec: dict[str, Any]) -> FileTensor:
        name = str(spec.get("name", _UNNAMED[kind]))
        tensor, items = spec.get("tensor-spec"), spec
        if isinstance(tensor, dict):
            datatype = Datatype.BYTES if tensor["dtype"] in _TEXTS else Datatype.of_numpy(tensor["dtype"])
            first, *rest = tensor["shape"] or [1]
            shape = (BATCH if first == -1 else first, *rest) if tensor["shape"] else ()
        else:
            shape = (BATCH,)
            while items.get("type") == "array" and isinstance(items.get("items"), dict):
                items, shape = items["items"], (*shape, -1)
            datatype = _COLUMNS.get(items.get("type", ""))
        if datatype is None:
            got = tensor["dtype"] if tensor else items.get("type")
            raise TargetError(
                f'"{name}" of the {kind} of {self._folder.name} is {got}, which cannot be sent',
                f"log the model with one of {', '.join(_COLUMNS)}, or with arrays",
            )
        return FileTensor(name, datatype, shape)


def _declared(shape: tuple[int | str | None, ...]) -> tuple[int | str, ...]:
    return tuple(-1 if axis is None else axis for axis in shape)


def _specs(folder: Path, signature: Any, kind: str) -> list[dict[str, Any]] | None:
    """The list of one kind, which is JSON inside of YAML; None where there is none."""
    text = signature.get(kind) if isinstance(signature, dict) else None
    if not text:
        return None
    try:
        specs = json.loads(text)
    except (TypeError, ValueError):
        specs = None
    if not isinstance(specs, list) or not specs or not all(map(_is_spec, specs)):
        raise TargetError(
            f"the {kind} in {_FILE} of {folder.name} are no list of columns or tensors: {text!s:.80}", _SIGN
        )
    return specs


def _is_spec(spec: Any) -> bool:
    """A column by its type, or a tensor by datatype and shape."""
    if not isinstance(spec, dict):
        return False
    tensor = spec.get("tensor-spec")
    if tensor is None:
        return isinstance(spec.get("type"), str)
    return isinstance(tensor, dict) and isinstance(tensor.get("dtype"), str) and isinstance(tensor.get("shape"), list)


def _times(name: str, column: Any) -> Any:
    """Datetimes of texts. Raises InvalidInputError for what is none."""
    import pandas as pd

    try:
        return pd.to_datetime(column, format="ISO8601")
    except ValueError as error:
        raise InvalidInputError(
            f'input "{name}" has no datetimes: {text_of(error)}', "send them as 2026-01-31T12:00:00"
        ) from None


def _loaded(folder: Path) -> Any:
    # Before the import: nothing is fetched by what the model imports, and mlflow tells nobody that it is used.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "MLFLOW_DISABLE_TELEMETRY"):
        os.environ[name] = "1"
    pyfunc = imported("mlflow.pyfunc", ABOUT)
    try:
        return pyfunc.load_model(str(folder))
    except Exception as error:
        raise TargetError(
            f"mlflow cannot load {folder.name}: {text_of(error)}",
            "install what its requirements.txt lists, or log it again",
        ) from error


def _run(model: Any, signature: Signature, takes: str, times: list[str]) -> Callable[[dict[str, Any]], Any]:
    """What mlflow.pyfunc takes and gives: tables of pandas, arrays, dictionaries of arrays."""
    import numpy as np

    pandas = imported("pandas", ABOUT)
    outputs = signature.outputs

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        arrays = {name: texts(name, array) if array.dtype == object else array for name, array in inputs.items()}
        match takes:
            case "frame":
                given = pandas.DataFrame(
                    {name: array if array.ndim == 1 else list(array) for name, array in arrays.items()}
                )
                for name in times:
                    given[name] = _times(name, given[name])
            case "tensors":
                given = arrays
            case _:
                given = next(iter(arrays.values()))
        found = model.predict(given)
        if isinstance(found, pandas.DataFrame) and (len(outputs) > 1 or outputs[0].name in found.columns):
            found = {name: found[name].to_numpy() for name in found.columns}
        if not isinstance(found, dict):
            found = {outputs[0].name: found}
        return {output.name: _typed(found[output.name], output.datatype) for output in outputs if output.name in found}

    def _typed(value: Any, datatype: Datatype | None) -> Any:
        array = np.asarray(value)
        if datatype is Datatype.BYTES or array.dtype.kind in "OUS":
            plain = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
            return np.array(plain, object).reshape(array.shape)
        return np.ascontiguousarray(array, None if datatype is None else datatype.numpy_name)

    return run
