"""Arrays become the protocol's bytes and come back, whatever their datatype, shape and memory order."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from samovar.codecs.arrays import ArrayCodec
from samovar.errors import OutputError
from samovar.types import Datatype, Signature, TensorSpec

FIXED = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]


def codec(datatype: Datatype | None, *, writable: bool = False) -> ArrayCodec:
    spec = TensorSpec("x", datatype, ())
    return ArrayCodec(Signature((spec,), (spec,), batch_axis=False), writable=writable)


def dtype(datatype: Datatype) -> Any:
    return np.dtype(ml_dtypes.bfloat16 if datatype is Datatype.BF16 else datatype.numpy_name)


def there_and_back(datatype: Datatype, value: Any, *, writable: bool = False) -> Any:
    one = codec(datatype, writable=writable)
    ((number, shape, data),) = one.encode([value])
    assert number == datatype
    (back,) = one.decode([(memoryview(data).tobytes(), number, shape)])
    return back


@pytest.mark.parametrize("datatype", FIXED)
@given(data=st.data())
def test_every_fixed_datatype_round_trips(datatype: Datatype, data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    kind = dtype(datatype)
    size = int(np.prod(shape)) * kind.itemsize
    raw = data.draw(st.binary(min_size=size, max_size=size))
    if datatype is Datatype.BOOL:
        raw = bytes(byte & 1 for byte in raw)
    array = np.ndarray(shape, kind, raw)
    back = there_and_back(datatype, array)
    assert (back.dtype, back.shape, back.tobytes()) == (kind, shape, raw)


@pytest.mark.parametrize("datatype", FIXED)
def test_a_tensor_of_unknown_datatype_is_what_it_is_sent_as(datatype: Datatype) -> None:
    array = np.zeros((2, 3), dtype(datatype))
    ((number, shape, data),) = codec(None).encode([array])
    assert (number, shape) == (datatype, (2, 3))
    (back,) = codec(None).decode([(memoryview(data).tobytes(), number, shape)])
    assert (back.dtype, back.shape) == (array.dtype, array.shape)


@given(st.lists(st.lists(st.binary(max_size=9), min_size=2, max_size=2), max_size=4))
def test_text_tensors_round_trip(rows: list[list[bytes]]) -> None:
    array = np.empty((len(rows), 2), object)
    for index, row in enumerate(rows):
        array[index] = row
    back = there_and_back(Datatype.BYTES, array)
    assert back.dtype == object
    assert back.tolist() == rows


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array(["é", "b"]), ["é".encode(), b"b"]),
        (np.array([b"a", b"bc"]), [b"a", b"bc"]),
        (np.array(["a", b"\0"], object), [b"a", b"\0"]),
        (["a", b"ends in nul\0"], [b"a", b"ends in nul\0"]),
        (b"alone", b"alone"),
    ],
)
def test_texts_of_any_kind_are_bytes_for_the_client(value: Any, expected: Any) -> None:
    assert there_and_back(Datatype.BYTES, value).tolist() == expected


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype="f4").reshape(2, 3).T,
        np.arange(12, dtype="f4")[::2].reshape(3, 2),
        np.arange(6, dtype=">f4").reshape(3, 2),
        np.broadcast_to(np.float32(1), (3, 2)),
    ],
)
def test_any_memory_order_is_sent_in_the_protocols(value: Any) -> None:
    np.testing.assert_array_equal(there_and_back(Datatype.FP32, value), value)


def test_scalars_are_arrays_without_axes() -> None:
    assert there_and_back(Datatype.FP32, np.float32(1.5)).shape == ()
    assert there_and_back(Datatype.FP64, 1.5) == 1.5
    assert there_and_back(Datatype.INT64, [1, 2]).tolist() == [1, 2]


def test_another_dtype_is_not_cast_but_sent_for_the_engine_to_judge() -> None:
    ((number, _, _),) = codec(Datatype.FP32).encode([np.zeros(2, "f8")])
    assert number == Datatype.FP64


@pytest.mark.parametrize("datatype", FIXED)
def test_inputs_are_read_only_views_unless_copies_are_wanted(datatype: Datatype) -> None:
    data = bytes(2 * dtype(datatype).itemsize)
    (view,) = codec(datatype).decode([(data, datatype, (2,))])
    assert not view.flags.writeable
    assert np.shares_memory(view, np.frombuffer(data, "u1"))
    (copy,) = codec(datatype, writable=True).decode([(data, datatype, (2,))])
    assert copy.flags.writeable
    assert not np.shares_memory(copy, np.frombuffer(data, "u1"))


@pytest.mark.parametrize(
    ("datatype", "value", "message"),
    [
        (Datatype.FP32, None, 'output "x" is None; return an array of float32'),
        (Datatype.FP32, {"a": 1}, 'output "x" is dict; return an array of float32'),
        (Datatype.FP32, object(), 'output "x" is object; return an array of float32'),
        (Datatype.FP32, [[{}]], 'output "x" is list of dict; return an array of float32'),
        (
            Datatype.FP32,
            np.array([b"a"], object),
            'output "x" has dtype object, which cannot be sent; return an array of float32',
        ),
        (Datatype.BYTES, None, 'output "x" is None; return an array of bytes or str'),
        (
            Datatype.FP32,
            np.zeros(2, "c8"),
            'output "x" has dtype complex64, which cannot be sent; return an array of float32',
        ),
        (
            Datatype.FP32,
            np.zeros(2, ml_dtypes.bfloat16),
            'output "x" has dtype bfloat16, which cannot be sent; return an array of float32',
        ),
        (
            Datatype.BYTES,
            np.array(["a", 3], object),
            (
                'element 1 of output "x" is int, neither bytes nor str; convert every element, or return an array of '
                "another dtype"
            ),
        ),
    ],
)
def test_what_has_no_bytes_is_refused(datatype: Datatype, value: Any, message: str) -> None:
    with pytest.raises(OutputError) as caught:
        codec(datatype).encode([value])
    assert str(caught.value) == message


@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.BYTES])
def test_a_coroutine_is_refused_with_the_word_to_write(datatype: Datatype) -> None:
    async def forgotten() -> None: ...

    with pytest.raises(OutputError, match=r'^output "x" is coroutine; await it, in an async def predict$'):
        codec(datatype).encode([forgotten()])


def test_what_is_no_array_is_refused() -> None:
    with pytest.raises(
        OutputError, match=r'^output "x" is list, no array: .*inhomogeneous.*; return an array of float32$'
    ):
        codec(Datatype.FP32).encode([[[1.0], [1.0, 2.0]]])
