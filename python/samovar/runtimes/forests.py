"""What runtimes of forests have in common: from scores to named outputs, and columns of categories."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from operator import itemgetter
from typing import Any

from samovar.errors import InvalidInputError
from samovar.runtimes import Question
from samovar.runtimes.files import FileModel, describe
from samovar.runtimes.tables import (
    LABEL,
    MATRIX,
    PREDICTION,
    PROBABILITIES,
    classifier_outputs,
    column_inputs,
    label_array,
    matrix_input,
    texts,
)
from samovar.runtimes.tensors import FileTensor, signature_of
from samovar.types import Datatype, Signature

__all__ = ["Forest", "Task"]

_BATCH = "batch"
_SHOWN_CATEGORIES = 10


class Task(Enum):
    """What the scores of a forest are, one row for each row of the input."""

    BINARY = auto()
    """The probability of the second of two classes."""
    CLASSES = auto()
    """The probability of each class, of which one is right."""
    MANY_LABELS = auto()
    """The probability of each label, of which any may be right."""
    NUMBERS = auto()
    """One number, or one for each target."""


@dataclass(frozen=True)
class Forest:
    """What a file says of its forest.

    `width` is how many scores a row has, `labels` names the classes, and `categories` has those of each column that a
    data frame had some for: the forest knows them by their places.
    """

    task: Task
    width: int
    features: int
    datatype: Datatype
    labels: Sequence[Any] | None = None
    columns: Sequence[str] = ()
    categories: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    threshold: float = 0.5
    """Of two classes it is the second whose probability is above it."""

    def description(
        self,
        question: Question,
        runtime: str,
        imports: tuple[str, ...],
        inputs: Sequence[FileTensor] | None = None,
        **source: Any,
    ) -> dict[str, Any]:
        """The description of its model; without `inputs` those of the forest: see `_inputs`."""
        inputs = self._inputs() if inputs is None else inputs
        outputs = _outputs(self.task, self.labels, self.width, self.datatype)
        signature = signature_of(question.path.name, inputs, outputs, question.declared)
        labels = {} if self.labels is None else {"labels": {PROBABILITIES: list(self.labels)}}
        if self.categories:  # of which a made-up one may be refused
            source["examples"] = {name: values[0] for name, values in self.categories.items() if values}
        options = question.declared.options
        return describe(question, runtime, signature, options, imports, columns=list(self.columns), **labels, **source)

    def _inputs(self) -> list[FileTensor]:
        """One matrix, or an input for each column where some have categories."""
        if not self.categories:
            return matrix_input(self.features, self.datatype)
        datatypes = [_datatype(self.categories.get(name), self.datatype) for name in self.columns]
        return column_inputs(self.columns, datatypes)

    def model(
        self,
        spec: dict[str, Any],
        score: Callable[[Any], Any],
        rows: Callable[[dict[str, Any]], Any] | None = None,
        *,
        refuses_unseen: bool = False,
    ) -> FileModel:
        """The model whose `score` takes what `rows` makes of the inputs, and gives (rows,) or (rows, width).

        Without `rows` that is a matrix, (rows, features); a category that the forest does not know is a missing value
        there, or refused.
        """
        answer = _answering(self.task, self.labels, self.threshold)
        if rows is None and self.categories:
            rows = _encoder(self.columns, self.categories, self.datatype, refuses_unseen=refuses_unseen)
        table = rows or itemgetter(MATRIX)
        return FileModel(Signature.from_json(spec), lambda inputs: answer(score(table(inputs))))


def _outputs(task: Task, labels: Sequence[Any] | None, width: int, datatype: Datatype) -> list[FileTensor]:
    """`label` and `probabilities`, or `prediction`."""
    if task in (Task.BINARY, Task.CLASSES):
        return classifier_outputs(labels, datatype)
    if task is Task.MANY_LABELS:
        return [
            FileTensor(LABEL, Datatype.INT64, (_BATCH, width)),
            FileTensor(PROBABILITIES, datatype, (_BATCH, width)),
        ]
    return [FileTensor(PREDICTION, datatype, (_BATCH,) if width == 1 else (_BATCH, width))]


def _answering(task: Task, labels: Sequence[Any] | None, threshold: float) -> Callable[[Any], dict[str, Any]]:
    """The function from scores, (rows,) or (rows, width), to the outputs of `_outputs`."""
    import numpy as np

    def answer(scores: Any) -> dict[str, Any]:
        if task is Task.NUMBERS:
            return {PREDICTION: scores}
        if task is Task.MANY_LABELS:
            return {LABEL: (scores > threshold).astype(np.int64), PROBABILITIES: scores}
        if task is Task.BINARY:
            places = (scores > threshold).astype(np.intp)
            scores = np.stack((1 - scores, scores), axis=1)
        else:
            places = scores.argmax(axis=1)
        return {LABEL: label_array(labels or (), places), PROBABILITIES: scores}

    return answer


def _encoder(
    columns: Sequence[str], categories: Mapping[str, Sequence[Any]], datatype: Datatype, *, refuses_unseen: bool
) -> Callable[[dict[str, Any]], Any]:
    """From an array for each column to a matrix, where a category is its place; an empty text is a missing value."""
    import numpy as np

    codes = {name: {value: float(place) for place, value in enumerate(values)} for name, values in categories.items()}
    missing = float("nan")

    def encoded(inputs: dict[str, Any]) -> Any:
        matrix = np.empty((len(inputs[columns[0]]), len(columns)), datatype.numpy_name)
        for place, name in enumerate(columns):
            array = inputs[name]
            if name not in codes:
                matrix[:, place] = array
                continue
            known = codes[name]
            values = (texts(name, array) if array.dtype == object else array).tolist()
            if refuses_unseen:
                _check_seen(name, values, known)
            matrix[:, place] = [known.get(value, missing) for value in values]
        return matrix

    return encoded


def _check_seen(name: str, values: Sequence[Any], known: Mapping[Any, float]) -> None:
    for value in values:
        if value not in known and value != "":
            shown = ", ".join(map(repr, list(known)[:_SHOWN_CATEGORIES]))
            more = f", ... ({len(known)})" if len(known) > _SHOWN_CATEGORIES else ""
            raise InvalidInputError(
                f'input "{name}" has {value!r}, which the model was not trained with', f"it knows {shown}{more}"
            )


def _datatype(categories: Sequence[Any] | None, numeric: Datatype) -> Datatype:
    """That of a column's values as they are in a data frame."""
    if categories is None:
        return numeric
    kinds = {type(value) for value in categories}
    if kinds in ({bool}, {int}):
        return Datatype.BOOL if kinds == {bool} else Datatype.INT64
    return Datatype.FP64 if kinds <= {int, float} else Datatype.BYTES
