"""What is written after `--input` becomes the array that the model declares, or is refused with a cure."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from samovar.cli.inputs import read_inputs
from samovar.codecs.lists import array_of
from samovar.errors import InputError
from samovar.types import Datatype


def metadata(*inputs: tuple[str, str, list[int]]) -> dict[str, Any]:
    tensors = [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in inputs]
    return {"name": "m", "inputs": tensors, "outputs": []}


X = metadata(("x", "FP32", [-1, 2]))
TEXT = metadata(("t", "BYTES", [-1, 1]))


def read(words: str, model: dict[str, Any] = X) -> Any:
    (array,) = read_inputs([words], model).values()
    return array


@pytest.mark.parametrize(
    ("datatype", "value", "dtype"),
    [
        ("FP32", [[1, 2.5]], np.float32),
        ("FP16", [[1, 2.5]], np.float16),
        ("BF16", [[1, 2.5]], ml_dtypes.bfloat16),
        ("UINT64", [[0, 2**64 - 1]], np.uint64),
        ("INT8", [[-128, 127]], np.int8),
        ("BOOL", [[True, False]], np.bool_),
        ("FP32", 1.5, np.float32),
        ("FP32", [], np.float32),
        ("FP32", [[], []], np.float32),
    ],
)
def test_json_becomes_the_declared_datatype(datatype: str, value: Any, dtype: Any) -> None:
    array = array_of(value, Datatype[datatype])
    assert array.dtype == dtype
    assert array.tolist() == value


@pytest.mark.parametrize(
    ("value", "datatype"),
    [([1, 2], "INT64"), ([1, 2.5], "FP32"), ([True], "BOOL"), (["a"], "BYTES"), ([], "FP32")],
)
def test_a_datatype_that_nobody_declares_is_taken_from_the_look(value: Any, datatype: str) -> None:
    assert array_of(value, None).dtype == np.dtype(Datatype[datatype].numpy_name)


@pytest.mark.parametrize(
    ("datatype", "value", "reason"),
    [
        ("UINT8", [256], "an element is out of the range of UINT8"),
        ("UINT8", [-1], "an element is out of the range of UINT8"),
        ("FP32", [1e300], "an element is out of the range of FP32"),
        ("FP32", [10**400], "an element is out of the range of FP32"),
        ("INT32", [1.0], r"1.0 is not a whole number \(INT32\)"),
        ("INT32", [True], r"true is not a whole number \(INT32\)"),
        ("FP32", ["1"], r"'1' is not a number \(FP32\)"),
        ("FP32", [None], r"null is not a number \(FP32\)"),
        ("FP32", {"a": 1}, r"{'a': 1} is not a number \(FP32\)"),
        ("BOOL", [1], r"1 is not true or false \(BOOL\)"),
        ("BYTES", [1], r"1 is not a string \(BYTES\)"),
        ("FP32", [[1, 2], [3]], "its lists are not equally long: 2 and 1"),
        ("FP32", [[1], 2], "its lists are not equally deep"),
        ("FP32", [1, [2]], "its lists are not equally deep"),
    ],
)
def test_nothing_is_rounded_cut_or_guessed(datatype: str, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        array_of(value, Datatype[datatype])


def test_a_name_may_be_left_out_where_there_is_one_input() -> None:
    two = metadata(("x", "FP32", [-1]), ("0", "FP32", [-1]))
    assert read("x=[[1, 2]]").tolist() == read("[[1, 2]]").tolist() == [[1, 2]]
    assert read('[["a=b"]]', TEXT).tolist() == [[b"a=b"]]
    assert list(read_inputs(["x=[1]", "0=[2]"], two)) == ["x", "0"]
    with pytest.raises(InputError, match=r'names no input; write NAME=VALUE; the model has "x", "0"$'):
        read("[1]", two)


def test_files_are_arrays_json_or_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.array([[1, 2]], np.float32))
    np.save("half.npy", np.array([[1.5]], ml_dtypes.bfloat16))
    Path("x.json").write_text("[[3, 4]]")
    Path("note").write_bytes(b"\xff\x00")
    assert read("@x.npy").tolist() == [[1, 2]]
    assert read("x=@x.json").tolist() == [[3, 4]]
    assert read("@note", TEXT).tolist() == [[b"\xff\x00"]]
    assert read("@half.npy", metadata(("x", "BF16", [-1, 1]))).dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("shape", [[-1, -1, 3], [-1, -1, -1, 3]])
def test_an_image_becomes_the_pixels_of_an_input_that_has_their_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 2), "red").save("red.png")
    pixels = read("@red.png", metadata(("photo", "UINT8", shape)))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (*[1] * (len(shape) - 3), 2, 4, 3))
    assert (pixels == [255, 0, 0]).all()
    Path("note").write_text("hello")
    with pytest.raises(InputError, match='"note" for input "photo": no image can be read: its format is unknown'):
        read("@note", metadata(("photo", "UINT8", shape)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("x=[1, 2", "is no JSON"),
        ("x=" + "[" * 100_000, "is nested too deeply"),
        ("x=" + "[" * 17 + "1" + "]" * 17, "it has 17 axes, at most 16 can be sent"),
        ("x=[1, 2]", r"shape [2] does not fit [-1,2], its first axis is missing; write [[1, 2]]"),
        ("y=[[1, 2]]", 'model "m" has no input "y"; it has "x"'),
        ("x=@none.npy", 'file "none.npy" for input "x" cannot be read: No such file or directory'),
        ("x=@note", '"note" for input "x" is neither .npy nor .json'),
        ("x=@false.npy", '"false.npy" for input "x" is no .npy file'),
        ("x=@objects.npy", "allow_pickle=False"),
        ("x=@cut.npy", '"cut.npy" for input "x" cannot be read'),
        ("x=@flat.npy", "its first axis is missing; add it with array[None]"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("note").write_text("hello")
    Path("false.npy").write_text("hello")
    np.save("objects.npy", np.array([[object()]]), allow_pickle=True)
    np.save("flat.npy", np.zeros(2, np.float32))
    Path("cut.npy").write_bytes(Path("flat.npy").read_bytes()[:-3])
    with pytest.raises(InputError) as caught:
        read(words)
    assert message in str(caught.value)


def test_every_input_needs_one_value() -> None:
    two = metadata(("x", "FP32", [-1, 2]), ("t", "BYTES", [-1, 1]))
    with pytest.raises(
        InputError, match=r"""^no value for "t" of model "m"; write for instance --input 't=\[\["text"\]\]'$"""
    ):
        read_inputs(["x=[[1, 2]]"], two)
    with pytest.raises(InputError, match='input "x" is given twice'):
        read_inputs(["x=[[1, 2]]", "x=[[1, 2]]"], two)
    assert read_inputs([], metadata()) == {}


def test_an_example_in_a_message_is_a_value_that_is_read() -> None:
    for datatype in Datatype:
        model = metadata(("x", datatype.name, [-1, 2]))
        with pytest.raises(InputError) as caught:
            read_inputs([], model)
        value = json.loads(caught.value.next_step.partition("x=")[2].rstrip("'"))
        assert array_of(value, datatype).shape == (1, 2)
