"""From the words of `--input` to arrays of the datatypes that a model declares."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samovar.codecs.elements import dtype_of
from samovar.codecs.fitting import misfit
from samovar.codecs.lists import array_of
from samovar.errors import InputError
from samovar.types import Datatype

__all__ = ["read_inputs", "read_records"]

_NPY = b"\x93NUMPY"
_RECORDS = """write for instance --records '[{"age": 41, "city": "oslo"}]'"""
_NO_NAME = tuple("@[{\"'0123456789-")


def read_inputs(given: Sequence[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by name; `metadata` is the model's. Raises InputError."""
    specs = {spec["name"]: spec for spec in metadata["inputs"]}
    arrays: dict[str, Any] = {}
    for words in given:
        name, value = _split(words, list(specs))
        if name not in specs:
            raise InputError(f'model "{metadata["name"]}" has no input "{name}"', f"it has {_names(specs)}")
        if name in arrays:
            raise InputError(f'input "{name}" is given twice', "give it once")
        arrays[name] = _read(value, specs[name])
    missing = [name for name in specs if name not in arrays]
    if missing:
        raise InputError(f'no value for {_names(missing)} of model "{metadata["name"]}"', _example(specs[missing[0]]))
    return arrays


def read_records(rows: str, given: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of `--records`, which stands in place of `--input`. Raises InputError."""
    if given:
        raise InputError("--records and --input are both given", "give one of them")
    source = _content(rows[1:], "--records") if rows.startswith("@") else rows
    try:
        records = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--records is no JSON ({error})", _RECORDS) from None
    records = [records] if isinstance(records, dict) else records
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InputError("--records is no list of objects", _RECORDS)
    return records


def _split(words: str, names: list[str]) -> tuple[str, str]:
    """Name and value; the name may be left out where the model has one input."""
    name, separator, value = words.partition("=")
    if separator and (name in names or not words.startswith(_NO_NAME)):
        return name, value
    if len(names) != 1:
        raise InputError(f'--input "{words[:80]}" names no input', f"write NAME=VALUE; the model has {_names(names)}")
    return names[0], words


def _read(value: str, spec: Mapping[str, Any]) -> Any:
    """The array that `value` stands for."""
    if not value.startswith("@"):
        return _from_json(value, spec, "its value")
    place = value[1:]
    data = _content(place, f'input "{spec["name"]}"')
    if data.startswith(_NPY):
        return _fitting(_from_npy(data, place, spec), spec, None)
    suffix = Path(place).suffix
    if place == "-" or suffix == ".json":
        return _from_json(data, spec, place)
    if suffix == ".npy":
        raise InputError(f'"{place}" for input "{spec["name"]}" is no .npy file', "write one with numpy.save")
    if _is_picture(spec):
        return _from_image(data, place, spec)
    if spec["datatype"] != Datatype.BYTES.name:
        raise InputError(
            f'"{place}" for input "{spec["name"]}" is neither .npy nor .json',
            f"the bytes of a file are an element of BYTES, and this input is {spec['datatype']}",
        )
    return array_of(data, Datatype.BYTES).reshape([1] * len(spec["shape"]))


def _content(place: str, purpose: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if place == "-" else Path(place).read_bytes()
    except OSError as error:
        raise InputError(f'file "{place}" for {purpose} cannot be read: {error.strerror}') from None


def _from_npy(data: bytes, place: str, spec: Mapping[str, Any]) -> Any:
    import io

    import numpy as np

    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f'"{place}" for input "{spec["name"]}" cannot be read: {error}') from None
    if array.dtype.str == "|V2" and spec["datatype"] == Datatype.BF16.name:  # how numpy saves bfloat16
        return array.view(dtype_of(Datatype.BF16))
    return array


def _is_picture(spec: Mapping[str, Any]) -> bool:
    """Whether the input is height x width x 3 bytes, with a batch axis or without."""
    return spec["datatype"] == Datatype.UINT8.name and len(spec["shape"]) in (3, 4) and spec["shape"][-1] == 3


def _from_image(data: bytes, place: str, spec: Mapping[str, Any]) -> Any:
    import numpy as np
    from pydantic_core import PydanticCustomError

    from samovar.service.images import decoded

    try:
        pixels = np.asarray(decoded(data))
    except PydanticCustomError as error:
        raise InputError(f'"{place}" for input "{spec["name"]}": {error.message()}') from None
    return pixels if len(spec["shape"]) == 3 else pixels[None]


def _from_json(source: str | bytes, spec: Mapping[str, Any], place: str) -> Any:
    name = spec["name"]
    try:
        value = json.loads(source)
    except ValueError as error:
        raise InputError(f'input "{name}": {place} is no JSON ({error})', _example(spec)) from None
    except RecursionError:
        raise InputError(f'input "{name}": {place} is nested too deeply', _example(spec)) from None
    try:
        array = array_of(value, None if spec["datatype"] == "UNKNOWN" else Datatype[spec["datatype"]])
    except ValueError as error:
        raise InputError(f'input "{name}": {error}', _example(spec)) from None
    return _fitting(array, spec, value)


def _fitting(array: Any, spec: Mapping[str, Any], value: Any) -> Any:
    """`array`, unless it lacks just the first axis: everything else is the engine's to tell."""
    from samovar.cli.signatures import shape_text

    dims, shape = spec["shape"], array.shape
    if spec["datatype"] == "UNKNOWN" or misfit((1, *shape), dims) or not misfit(shape, dims):
        return array
    written = json.dumps([value], ensure_ascii=False)
    cure = f"write {written}" if value is not None and len(written) <= 80 else "add it with array[None]"
    fault = f'input "{spec["name"]}": shape {list(shape)} does not fit {shape_text(spec)}, its first axis is missing'
    raise InputError(fault, cure)


def _names(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names) or "no inputs"


def _example(spec: Mapping[str, Any]) -> str:
    """A small value that fits, as it stands in a shell."""
    value: Any = {"BOOL": True, "BYTES": "text"}.get(spec["datatype"], 0.5 if "F" in spec["datatype"] else 1)
    for dim in reversed(spec["shape"]):
        value = [value] * min(max(dim, 1), 2)
    shown = json.dumps(value)
    if len(shown) > 60 or any(dim > 2 for dim in spec["shape"]):
        return f"write for instance --input {spec['name']}=@file.npy"
    return f"write for instance --input '{spec['name']}={shown}'"
