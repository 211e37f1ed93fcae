"""Between the bytes of a tensor and numpy arrays.

numpy is imported when a model is loaded, not before: a spare worker without models stays small.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from samovar.codecs.elements import dtype_of, pack_texts, unpack_texts
from samovar.errors import OutputError
from samovar.types import Datatype, Signature, TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ArrayCodec"]

Encoded: TypeAlias = "tuple[int, tuple[int, ...], Buffer]"
_Decoder: TypeAlias = "Callable[[Buffer, int, tuple[int, ...]], Any]"


class ArrayCodec:
    """Decoder of the inputs and encoder of the outputs of one model."""

    def __init__(self, signature: Signature, *, writable: bool) -> None:
        import numpy as np

        self._np = np
        self._outputs = signature.outputs
        self._decoders = [_decoder(np, spec.datatype, writable) for spec in signature.inputs]
        self._numbers = {dtype_of(datatype): int(datatype) for datatype in _fixed_size(signature)}

    def decode(self, inputs: "Sequence[tuple[Buffer, int, tuple[int, ...]]]") -> list[Any]:
        """Arrays from bytes, datatype number and shape, in the order of the signature.

        The arrays are read-only views of the bytes unless the model wants writable copies; BYTES is an object array
        of `bytes`, BF16 has the dtype of ml_dtypes.
        """
        return [decode(*tensor) for decode, tensor in zip(self._decoders, inputs, strict=True)]

    def encode(self, values: Sequence[Any]) -> list[Encoded]:
        """Datatype number, shape and C-contiguous bytes of each output.

        Whether they fit the signature is the engine's check; OutputError is raised for what has no bytes at all.
        """
        return [self._encode(spec, value) for spec, value in zip(self._outputs, values, strict=True)]

    def _encode(self, spec: TensorSpec, value: Any) -> Encoded:
        array = self._array(spec, value)
        if array.shape:
            return self._encode_array(spec, array)
        number, _, buffer = self._encode_array(spec, array.reshape(1))  # PyO3 refuses a buffer that has no axis
        return number, (), buffer

    def _encode_array(self, spec: TensorSpec, array: Any) -> Encoded:
        number = self._numbers.get(array.dtype)
        if number is None:
            return self._encode_rare(spec, array)
        return number, array.shape, array.view("u2") if number == Datatype.BF16 else array

    def _array(self, spec: TensorSpec, value: Any) -> Any:
        """A C-contiguous array; elements of a text tensor keep their types."""
        if value is None:
            raise OutputError(f'output "{spec.name}" is None', _wanted(spec))
        if not isinstance(value, self._np.ndarray):
            _refuse_awaitable(spec, value)
        is_text = spec.datatype is Datatype.BYTES and not isinstance(value, self._np.ndarray)
        try:
            array = self._np.asarray(value, dtype=object if is_text else None, order="C")
        except Exception as error:
            raise OutputError(
                f'output "{spec.name}" is {type(value).__name__}, no array: {error}', _wanted(spec)
            ) from error
        if array.dtype.kind == "O" and array is not value and spec.datatype is not Datatype.BYTES:
            raise OutputError(f'output "{spec.name}" is {_kind(value)}', _wanted(spec))
        return array

    def _encode_rare(self, spec: TensorSpec, array: Any) -> Encoded:
        """Text, and numbers in the byte order of other machines."""
        if array.dtype.kind in ("SU" if spec.datatype is not Datatype.BYTES else "OSU"):
            return int(Datatype.BYTES), array.shape, _encode_texts(spec, array)
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        number = self._numbers.get(native.dtype)
        if number is None:
            raise OutputError(f'output "{spec.name}" has dtype {array.dtype}, which cannot be sent', _wanted(spec))
        return number, native.shape, native


def _wanted(spec: TensorSpec) -> str:
    if spec.datatype is None:
        return "return an array of numbers or bytes"
    kind = "bytes or str" if spec.datatype is Datatype.BYTES else spec.datatype.numpy_name
    return f"return an array of {kind}"


def _refuse_awaitable(spec: TensorSpec, value: Any) -> None:
    """A coroutine is what a forgotten `await` leaves."""
    if not hasattr(value, "__await__"):
        return
    if isinstance(value, Coroutine):
        value.close()  # else Python warns, at some later moment, that nobody awaited it
    raise OutputError(f'output "{spec.name}" is {type(value).__name__}', "await it, in an async def predict")


def _kind(value: Any) -> str:
    """What a value is that became an array of objects: its type, and in a list that of the first element."""
    name, first = type(value).__name__, value
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return name if first is value else f"{name} of {type(first).__name__}"


def _fixed_size(signature: Signature) -> list[Datatype]:
    """Datatypes whose arrays can be sent as they are; BF16, which costs an import, only where it can occur."""
    declared = {spec.datatype for spec in (*signature.inputs, *signature.outputs)}
    has_bfloat = not declared.isdisjoint({Datatype.BF16, None})
    return [d for d in Datatype if d is not Datatype.BYTES and (d is not Datatype.BF16 or has_bfloat)]


def _decoder(np: Any, datatype: Datatype | None, writable: bool) -> _Decoder:
    if datatype is None:
        decoders = {int(known): _decoder(np, known, writable) for known in Datatype}
        return lambda buffer, number, shape: decoders[number](buffer, number, shape)
    if datatype is Datatype.BYTES:
        return lambda buffer, _, shape: unpack_texts(buffer, shape)
    array, dtype = np.ndarray, dtype_of(datatype)
    # The bare constructor takes 0.46 us, frombuffer and reshape 0.70.
    if writable:
        return lambda buffer, _, shape: array(shape, dtype, buffer).copy()
    return lambda buffer, _, shape: array(shape, dtype, buffer)


def _encode_texts(spec: TensorSpec, array: Any) -> bytes:
    texts: list[bytes] = []
    for index, element in enumerate(array.ravel().tolist()):
        if isinstance(element, str):
            element = element.encode("utf-8", "surrogatepass")  # noqa: PLW2901 - the same text, as bytes
        elif not isinstance(element, bytes):
            raise OutputError(
                f'element {index} of output "{spec.name}" is {type(element).__name__}, neither bytes nor str',
                "convert every element, or return an array of another dtype",
            )
        texts.append(element)
    return pack_texts(texts)
