"""Values of Python, and results of a model, as arrays that fit a signature: the checks that an engine makes.

`crates/core/src/admission.rs` and `demultiplex.rs` make them for requests.
"""

from collections.abc import Coroutine, Sequence
from typing import Any

from samovar.codecs.arrays import ArrayCodec
from samovar.codecs.elements import dtype_of
from samovar.codecs.lists import array_of
from samovar.errors import InputError, OutputError
from samovar.types import Datatype, Signature, TensorSpec

__all__ = ["Fitting", "misfit", "shape_text"]


class Fitting:
    """The arrays that go into and come out of the model `name`."""

    def __init__(self, name: str, signature: Signature, *, writable: bool) -> None:
        self._name = name
        self._signature = signature
        self._writable = writable
        self._encoder = ArrayCodec(signature, writable=False)
        reverse = Signature(signature.outputs, (), signature.batch_axis)
        self._decoder = ArrayCodec(reverse, writable=False)

    def inputs(self, values: Sequence[Any]) -> list[Any]:
        """Arrays in the order of the signature: read-only views, or copies where the model writes.

        An array must have the declared dtype, lists and numbers get it; an image of Pillow is uint8, height, width, 3.
        Raises InputError.
        """
        arrays = []
        rows: int | None = None
        for spec, value in zip(self._signature.inputs, values, strict=True):
            place = f'input "{spec.name}" of model "{self._name}"'
            array = _array(place, spec, value)
            self._check_shape(place, spec, array.shape, InputError)
            if self._signature.batch_axis:
                rows = array.shape[0] if rows is None else rows
                if array.shape[0] != rows:
                    raise InputError(
                        f"{place} has {array.shape[0]} rows, the inputs before it {rows}",
                        "give equally many rows in all",
                    )
            arrays.append(self._given(array))
        return arrays

    def outputs(self, values: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """The arrays that a client would get. Raises OutputError."""
        encoded = self._encoder.encode(values)
        for spec, (number, shape, _) in zip(self._signature.outputs, encoded, strict=True):
            place = f'output "{spec.name}" of model "{self._name}"'
            if spec.datatype is not None and spec.datatype != number:
                got, wanted = Datatype(number).numpy_name, spec.datatype.numpy_name
                raise OutputError(f"{place}: dtype {got}, declared {wanted}", "convert it")
            self._check_shape(place, spec, shape, OutputError)
            if self._signature.batch_axis and shape[0] != inputs[0].shape[0]:
                raise OutputError(
                    f"{place}: {shape[0]} rows for {inputs[0].shape[0]}", "return one row for each row of the inputs"
                )
        return self._decoder.decode([(memoryview(data), number, shape) for number, shape, data in encoded])

    def _check_shape(
        self, place: str, spec: TensorSpec, shape: tuple[int, ...], error: type[InputError | OutputError]
    ) -> None:
        cure = None if spec.dims is None else misfit(shape, (-1,) * self._signature.batch_axis + spec.dims)
        if cure is not None:
            got, wanted = ",".join(map(str, shape)), shape_text(spec, batch_axis=self._signature.batch_axis)
            raise error(f"{place}: shape [{got}] does not fit {wanted}", cure)

    def _given(self, array: Any) -> Any:
        """What a worker would give: a model that writes into its input does not write into the caller's array."""
        if self._writable:
            return array.copy()
        view = array.view()
        view.flags.writeable = False
        return view


def shape_text(spec: TensorSpec, *, batch_axis: bool) -> str:
    """`[batch,3,24,-1]`, or `[?]` where nothing is known."""
    if spec.dims is None:
        return "[?]"
    return f"[{','.join(['batch'] * batch_axis + [str(dim) for dim in spec.dims])}]"


def misfit(shape: Sequence[int], wanted: Sequence[int]) -> str | None:
    """What is to be changed for `shape` to be `wanted`, where -1 is any length; None if it fits."""
    if len(shape) != len(wanted):
        return f"it wants {len(wanted)} axes"
    for axis, (length, limit) in enumerate(zip(shape, wanted, strict=True)):
        if limit not in (-1, length):
            return f"axis {axis} must be {limit}"
    return None


def _array(place: str, spec: TensorSpec, value: Any) -> Any:
    import numpy as np

    if hasattr(value, "__await__"):
        if isinstance(value, Coroutine):
            value.close()  # else Python warns, at some later moment, that nobody awaited it
        raise InputError(f"{place} is {type(value).__name__}, which was not awaited", "await it first")
    if _is_image(value):
        value = np.asarray(value if value.mode == "RGB" else value.convert("RGB"))
    if not hasattr(value, "dtype"):
        try:
            return array_of(_plain(value), spec.datatype)
        except ValueError as error:
            raise InputError(f"{place}: {error}", "give an array, or nested lists") from None
    try:
        array = np.asarray(value, order="C")
    except Exception as error:  # of the library whose array it is: a tensor on a GPU, for instance
        raise InputError(f"{place}: {type(value).__name__} is no array of numpy: {error}", "convert it") from error
    if array.dtype.kind in "OSU" and spec.datatype in (None, Datatype.BYTES):
        return _texts(place, array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if spec.datatype is not None and array.dtype != dtype_of(spec.datatype):
        name = spec.datatype.numpy_name
        raise InputError(f"{place}: dtype {array.dtype}, wanted {name}", f"convert it with .astype({name!r})")
    if array.dtype.kind == "O" or Datatype.of_numpy(array.dtype.name) is None:
        raise InputError(f"{place}: dtype {array.dtype} is none that a model takes", "convert it with .astype()")
    return array


def _is_image(value: Any) -> bool:
    """True for an image of Pillow, which need not be there: as a tensor it is uint8, height, width, red green blue."""
    return hasattr(value, "__array_interface__") and hasattr(value, "convert") and hasattr(value, "mode")


def _texts(place: str, array: Any) -> Any:
    """An object array of bytes."""
    try:
        return array_of(array.tolist(), Datatype.BYTES).reshape(array.shape)
    except ValueError as error:
        raise InputError(f"{place}: {error}", "give bytes or str") from None


def _plain(value: Any) -> Any:
    """Lists and the numbers of Python, for what has those of numpy inside."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "dtype") else value
