"""What runtimes of models of tables have in common: columns as inputs, labels and probabilities as outputs."""

from collections.abc import Sequence
from typing import Any

from samovar.errors import InvalidInputError
from samovar.runtimes.tensors import FileTensor
from samovar.types import Datatype

__all__ = [
    "LABEL",
    "MATRIX",
    "PREDICTION",
    "PROBABILITIES",
    "classifier_outputs",
    "column_inputs",
    "label_array",
    "labels_of",
    "matrix_input",
    "texts",
]

MATRIX = "x"
LABEL, PROBABILITIES, PREDICTION = "label", "probabilities", "prediction"
_BATCH = "batch"


def matrix_input(width: int | None, datatype: Datatype) -> list[FileTensor]:
    """One input with a column for each feature: the order is that of the training."""
    return [FileTensor(MATRIX, datatype, (_BATCH, -1 if width is None else width))]


def column_inputs(columns: Sequence[str], datatypes: Sequence[Datatype]) -> list[FileTensor]:
    """An input for each column, where some hold text."""
    return [FileTensor(name, datatype, (_BATCH,)) for name, datatype in zip(columns, datatypes, strict=True)]


def classifier_outputs(labels: Sequence[Any] | None, probabilities: Datatype | None) -> list[FileTensor]:
    """`label`, and `probabilities` of each class in the order of `labels` where the model gives them."""
    is_text = labels is None or any(isinstance(label, str) for label in labels)
    outputs = [FileTensor(LABEL, Datatype.BYTES if is_text else Datatype.INT64, (_BATCH,))]
    if probabilities is not None:
        outputs.append(FileTensor(PROBABILITIES, probabilities, (_BATCH, -1 if labels is None else len(labels))))
    return outputs


def labels_of(classes: Any) -> list[Any]:
    """The classes of a model as JSON has them: integers or texts."""
    plain = [value.item() if hasattr(value, "item") else value for value in classes]
    whole = all(isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer()) for value in plain)
    return [int(value) for value in plain] if whole else [str(value) for value in plain]


def label_array(labels: Sequence[Any], places: Any) -> Any:
    """The label that stands at each place, as INT64, or as texts in an object array."""
    import numpy as np

    is_text = any(isinstance(label, str) for label in labels)
    known = np.array([label.encode() if is_text else label for label in labels], object if is_text else np.int64)
    return known[places]


def texts(name: str, array: Any) -> Any:
    """Texts of an input of BYTES, in an object array. Raises InvalidInputError for what is not UTF-8."""
    decoded = array.copy()
    flat = decoded.ravel()
    for index, element in enumerate(flat.tolist()):
        try:
            flat[index] = element if isinstance(element, str) else element.decode()
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f'element {index} of input "{name}" is not UTF-8, as texts are: {error}', "encode it so"
            ) from None
    return flat.reshape(array.shape)
