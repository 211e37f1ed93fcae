"""The arrays of an answer: printed, as JSON, or written to files."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samovar.errors import InputError
from samovar.types import Datatype

__all__ = ["as_json_value", "print_outputs", "write_output"]

_SHOWN_ELEMENTS = 200


def print_outputs(outputs: Mapping[str, Any]) -> None:
    """Name, datatype, shape and elements of each; the middle of a long array is left out."""
    import numpy as np

    from samovar.cli.output import show, text

    for name, array in outputs.items():
        shape = ",".join(map(str, array.shape))
        shown = np.array2string(_texts(array), separator=", ", threshold=_SHOWN_ELEMENTS)
        show(text(name, "bold").append(f"  {_datatype(array)} [{shape}]", "not bold"), text(shown))


def as_json_value(name: str, array: Any) -> dict[str, Any]:
    """Nested lists; NaN and infinities, which JSON does not have, are null."""
    return {"name": name, "datatype": _datatype(array), "shape": list(array.shape), "data": _nested(array)}


def write_output(name: str, array: Any, path: Path) -> None:
    """Write to a .npy or .json file; the single element of a text output to any other. Raises InputError."""
    import numpy as np

    try:
        if path.suffix == ".npy":
            with path.open("wb") as file:
                np.save(file, _without_objects(name, array), allow_pickle=False)
        elif path.suffix == ".json":
            path.write_text(json.dumps(_nested(array), ensure_ascii=False) + "\n", "utf-8")
        elif array.dtype == object and array.size == 1:
            path.write_bytes(array.item())
        else:
            raise InputError(f'output "{name}" cannot be written to "{path}"', "name a .npy or .json file")
    except OSError as error:
        raise InputError(f'output "{name}" cannot be written to "{path}": {error.strerror}') from None


def _datatype(array: Any) -> str:
    datatype = Datatype.of_numpy(array.dtype.name)
    assert datatype is not None  # it came from a datatype
    return datatype.name


def _nested(array: Any) -> Any:
    return _finite(_texts(array).tolist())


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _texts(array: Any) -> Any:
    """`array`, its byte strings as text; what is no UTF-8 as escapes."""
    import numpy as np

    if array.dtype != object:
        return array
    texts = np.empty(array.size, object)
    texts[:] = [element.decode("utf-8", "backslashreplace") for element in array.ravel()]
    return texts.reshape(array.shape)


def _without_objects(name: str, array: Any) -> Any:
    """What numpy saves without pickling: byte strings of one length, which lose NULs at their ends."""
    if array.dtype != object:
        return array
    if any(element.endswith(b"\0") for element in array.ravel()):
        raise InputError(f'a text of output "{name}" ends in a NUL, which .npy files lose', "write a .json file")
    return array.astype("S")
