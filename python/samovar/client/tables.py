"""Tables as inputs: a data frame of pandas or polars, a table of Arrow, or records (one mapping for each row)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from samovar.codecs.elements import dtype_of
from samovar.errors import InputError
from samovar.types import Datatype

__all__ = ["arrays_of"]

_FLOATS = frozenset({Datatype.FP32, Datatype.FP64})


def arrays_of(table: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs by name, of a table's columns by name; `metadata` is the model's.

    None, NaN and NA are missing values: NaN of floats, the empty text. Raises InputError for what is no table, for a
    model that takes none, and for columns that are missing, unknown or of other values.
    """
    import numpy as np

    columns = _columns(table)
    inputs = metadata["inputs"]
    matrix = inputs[0] if len(inputs) == 1 and inputs[0].get("columns") else None
    wanted = dict.fromkeys(matrix["columns"], matrix) if matrix else {spec["name"]: spec for spec in inputs}
    if matrix is None and not all(spec["shape"] in ([-1], [-1, 1]) for spec in inputs):
        raise InputError(
            f'model "{metadata["name"]}" takes no table: it names no columns, or an input has several values per row',
            f'give arrays: {{"{inputs[0]["name"] if inputs else "x"}": table.to_numpy()}}',
        )
    _check_names(list(columns), list(wanted), metadata["name"])
    arrays = {name: _array(name, columns[name], _datatype(spec)) for name, spec in wanted.items()}
    if matrix is not None:
        return {matrix["name"]: np.column_stack([arrays[name] for name in wanted])}
    return {name: arrays[name].reshape([-1, *spec["shape"][1:]]) for name, spec in wanted.items()}


def _columns(table: Any) -> Mapping[str, Any]:
    """The columns by name, each of which is a sequence."""
    names = getattr(table, "column_names", getattr(table, "columns", None))
    if names is not None:
        return {str(name): table[name] for name in names}
    if isinstance(table, Sequence) and all(isinstance(row, Mapping) for row in table):
        return _Records(table)
    raise InputError(
        f"inputs are of type {type(table).__name__}",
        "give a mapping of arrays by name, a data frame, an Arrow table, or a list of records",
    )


class _Records(Mapping[str, Any]):
    """Rows by column."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows
        self._names = list(dict.fromkeys(name for row in rows for name in row))

    def __getitem__(self, name: str) -> list[Any]:
        for number, row in enumerate(self._rows):
            if name not in row:
                raise InputError(f'record {number} has no "{name}"', "None stands for a value that nobody knows")
        return [row[name] for row in self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _check_names(given: list[str], wanted: list[str], model: str) -> None:
    known = ", ".join(wanted)
    unknown = [name for name in given if name not in wanted]
    if unknown:
        raise InputError(f'model "{model}" has no column "{unknown[0]}"', f"leave it out: it has {known}")
    missing = [name for name in wanted if name not in given]
    if missing:
        raise InputError(f'the table has no column "{missing[0]}"', f'model "{model}" has {known}')


def _datatype(spec: Mapping[str, Any]) -> Datatype | None:
    return None if spec["datatype"] == "UNKNOWN" else Datatype[spec["datatype"]]


def _array(name: str, column: Any, datatype: Datatype | None) -> Any:
    """One column as an array of what the model takes."""
    import numpy as np

    array = np.asarray(column)
    if datatype is None:
        return array
    if datatype is Datatype.BYTES:
        texts = np.empty(len(array), object)
        texts[:] = ["" if _is_missing(element) else element for element in array.tolist()]
        return texts
    is_fitting = array.dtype.kind in "biuf"
    if not is_fitting and array.dtype.kind == "O":
        elements = [float("nan") if _is_missing(element) else element for element in array.tolist()]
        is_fitting = all(isinstance(element, int | float) for element in elements)
        array = np.array(elements) if is_fitting else array
    is_whole = datatype in _FLOATS or array.dtype.kind in "biu"
    if not (is_fitting and is_whole):
        unfit = (element for element in array.tolist() if not isinstance(element, int | float | None))
        names = {"U": "text", "S": "text", "O": f"type {type(next(unfit, None)).__name__}"}
        what = names.get(array.dtype.kind, str(array.dtype))
        raise InputError(
            f'column "{name}" has values of {what} and the model takes {datatype.name}', "convert it before"
        )
    return array.astype(dtype_of(datatype))


def _is_missing(element: Any) -> bool:
    """None, NaN, and NA of pandas, which is neither equal nor unequal to anything."""
    return element is None or type(element).__name__ == "NAType" or (isinstance(element, float) and element != element)  # noqa: PLR0124 - NaN alone is so
