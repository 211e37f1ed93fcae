"""Typed arrays in JSON: nested lists, checked element by element where they arrive, as plain as they leave."""

from collections.abc import Callable, MutableMapping
from io import BytesIO
from math import inf
from typing import Any

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from samovar.codecs.elements import dtype_of
from samovar.codecs.fitting import misfit
from samovar.service.images import decoded
from samovar.types import Datatype

__all__ = ["ArrayValue"]

_NPY = b"\x93NUMPY"
_RANGES = {
    datatype: (0, (1 << bits) - 1) if datatype.name[0] == "U" else (-(1 << bits - 1), (1 << bits - 1) - 1)
    for datatype in Datatype
    if "INT" in datatype.name
    for bits in [int(datatype.name.rpartition("T")[2])]
}
# The largest finite numbers of the short ones.
_FLOAT_LIMITS = {
    Datatype.FP16: 65_504.0,
    Datatype.BF16: 3.3895313892515355e38,
    Datatype.FP32: 3.4028234663852886e38,
}


class ArrayValue:
    """How pydantic reads and writes the arrays of one annotation.

    Axes of the same name have the same length within one request: the validation context remembers them.
    """

    def __init__(self, datatype: Datatype, axes: list[int | str]) -> None:
        self.datatype = datatype
        self.axes = axes
        self._wanted = [axis if isinstance(axis, int) else -1 for axis in axes]

    @property
    def takes_images(self) -> bool:
        """True if an image is such an array: height, width, channels."""
        return self.datatype is Datatype.UINT8 and len(self.axes) == 3 and self.axes[2] in (3, *_names(self.axes))

    def __get_pydantic_core_schema__(self, _: Any, __: Any) -> CoreSchema:
        lists = self._lists()
        return core_schema.json_or_python_schema(
            core_schema.with_info_after_validator_function(self._of_lists, lists),
            core_schema.with_info_wrap_validator_function(self._of_python, lists),
            serialization=core_schema.plain_serializer_function_ser_schema(self._plain),
        )

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: Any) -> dict[str, Any]:
        element: dict[str, Any] = _element_json(self.datatype)
        if handler.mode == "serialization" and element["type"] == "number":
            element = {"type": ["number", "null"]}  # NaN and infinity
        for axis in reversed(self.axes):
            length = {"minItems": axis, "maxItems": axis} if isinstance(axis, int) else {}
            element = {"type": "array", "items": element, **length}
        return element

    def _lists(self) -> CoreSchema:
        schema = _element(self.datatype)
        for axis in reversed(self.axes):
            length = axis if isinstance(axis, int) else None
            # One wrong element is enough: a list of a million errors helps nobody.
            schema = core_schema.list_schema(schema, min_length=length, max_length=length, fail_fast=True)
        return schema

    def _of_python(self, value: Any, lists: Callable[[Any], Any], info: core_schema.ValidationInfo) -> Any:
        import numpy as np

        if isinstance(value, bytes):
            return self._checked(self._of_file(value), info)
        if isinstance(value, list | tuple) or not hasattr(value, "__array__"):
            return self._of_lists(lists(list(value) if isinstance(value, tuple) else value), info)
        return self._checked(np.asarray(value), info)

    def _of_lists(self, value: Any, info: core_schema.ValidationInfo) -> Any:
        import numpy as np

        try:
            with np.errstate(over="raise"):
                if self.datatype is Datatype.BYTES:
                    array = np.array(value, object)
                    array = np.array([text.encode() for text in array.ravel()], object).reshape(array.shape)
                else:
                    array = np.array(value, dtype_of(self.datatype))
        except (OverflowError, FloatingPointError):
            raise _error(f"an element is out of the range of {self.datatype.name}") from None
        except (ValueError, AttributeError):
            raise _error("its lists are not equally long") from None
        if array.size == 0:  # an empty list does not say how long the lists in it would be
            array = array.reshape([*array.shape, *(max(axis, 0) for axis in self._wanted[array.ndim :])])
        return self._checked(array, info)

    def _of_file(self, data: bytes) -> Any:
        """What stands in an uploaded file: numpy's own format, or an image."""
        import numpy as np

        if not data.startswith(_NPY):
            if self.takes_images:
                return np.asarray(decoded(data))
            raise _error("it is no file of numpy (.npy)")
        try:
            return np.load(BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise _error(f"its .npy file cannot be read: {error}") from None

    def _checked(self, array: Any, info: core_schema.ValidationInfo) -> Any:
        """The array, whose dtype and shape are those of the annotation."""
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        is_text = self.datatype is Datatype.BYTES and native.dtype.kind in "OSU"
        if not is_text and native.dtype != dtype_of(self.datatype):
            raise _error(f"dtype {array.dtype}, wanted {self.datatype.numpy_name}")
        cure = misfit(array.shape, self._wanted)
        if cure is not None:
            raise _error(f"shape [{_joined(array.shape)}] does not fit [{_joined(self.axes)}]: {cure}")
        lengths: MutableMapping[str, int] = {} if info.context is None else info.context
        for axis, length in zip(self.axes, array.shape, strict=True):
            if isinstance(axis, str) and lengths.setdefault(axis, length) != length:
                raise _error(f'axis "{axis}" has {length} elements here, {lengths[axis]} before')
        return native

    def _plain(self, array: Any) -> Any:
        if self.datatype is Datatype.BF16:
            array = array.astype("float32")
        elements = array.tolist()
        return _texts(elements) if self.datatype is Datatype.BYTES else elements


def _names(axes: list[int | str]) -> list[str]:
    return [axis for axis in axes if isinstance(axis, str)]


def _joined(parts: Any) -> str:
    return ",".join(map(str, parts))


def _error(text: str) -> PydanticCustomError:
    return PydanticCustomError("array", "{text}", {"text": text})


def _element(datatype: Datatype) -> CoreSchema:
    if datatype is Datatype.BOOL:
        return core_schema.bool_schema(strict=True)
    if datatype is Datatype.BYTES:
        return core_schema.str_schema(strict=True)
    if datatype in _RANGES:
        low, high = _RANGES[datatype]
        return core_schema.int_schema(strict=True, ge=low, le=high)
    limit = _FLOAT_LIMITS.get(datatype, inf)
    return core_schema.float_schema(strict=True, allow_inf_nan=False, ge=-limit, le=limit)


def _element_json(datatype: Datatype) -> dict[str, Any]:
    if datatype in _RANGES:
        low, high = _RANGES[datatype]
        return {"type": "integer", "minimum": low, "maximum": high}
    if datatype in _FLOAT_LIMITS:
        return {"type": "number", "minimum": -_FLOAT_LIMITS[datatype], "maximum": _FLOAT_LIMITS[datatype]}
    return {"type": {Datatype.BOOL: "boolean", Datatype.BYTES: "string"}.get(datatype, "number")}


def _texts(elements: Any) -> Any:
    """The same nest with texts for bytes; bytes that are no UTF-8 cannot be sent as JSON."""
    if isinstance(elements, list):
        return [_texts(element) for element in elements]
    return elements.decode() if isinstance(elements, bytes) else str(elements)
