"""Every datatype of the protocol, both ways, through each door, over each transport."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from http_door import DATATYPES, to_bytes
from protocol.asking import FORMS, ask_arrays
from serving import Served

IN_MEMORY = ("blobs", "raw")
CARRIED = [(form, name) for form in FORMS for name in DATATYPES if form in IN_MEMORY or name not in ("FP16", "BF16")]
"""Each form with the datatypes that it has: floats of 16 bits travel as they lie in memory alone."""
TEXTS = [b"", b"abc", "grüße, 世界 😀".encode(), b'"quoted" \\ \n\t\x00\x1f', b"x" * 10_000, b"end"]


def values(datatype: str, *, is_text: bool = True) -> np.ndarray:
    """Two rows with the ends of the datatype's range; for BYTES not all is UTF-8 unless it has to be."""
    dtype = DATATYPES[datatype]
    flat: list[Any]
    if datatype == "BYTES":
        array = np.empty(6, object)
        array[:] = TEXTS if is_text else [b"\xff\xfe", b"\x00", b"\x80" * 300, *TEXTS[:3]]
        return array.reshape(2, 3)
    if datatype == "BOOL":
        flat = [True, False, False, True, True, False]
    elif dtype.kind in "ui":
        info = np.iinfo(dtype)
        flat = [info.min, info.max, 0, 1, info.max - 1, info.min + 1]
    else:
        limits: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
        flat = [limits.min, limits.max, limits.smallest_subnormal, -0.0, 0.1, 1 / 3]
    return np.array(flat, dtype).reshape(2, 3)


def same(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Bit for bit: a negative zero is not zero."""
    return (got.dtype, got.shape, to_bytes(got)) == (wanted.dtype, wanted.shape, to_bytes(wanted))


def echo(datatype: str) -> str:
    """The model that answers its input in this datatype."""
    return f"echo_{datatype.lower()}"


@pytest.mark.parametrize(("form", "datatype"), CARRIED)
def test_each_form_carries_each_value(everywhere: Served, form: str, datatype: str) -> None:
    x = values(datatype, is_text=form == "json")
    assert same(ask_arrays(everywhere, form, echo(datatype), {"x": x}).arrays()["output"], x)


@pytest.mark.parametrize(
    ("form", "datatype"), [(form, name) for form, name in CARRIED if form != "json" and DATATYPES[name].kind in "fV"]
)
def test_every_form_but_json_carries_nan_and_infinities(everywhere: Served, form: str, datatype: str) -> None:
    x = np.array([[np.nan, np.inf, -np.inf]], DATATYPES[datatype])
    assert same(ask_arrays(everywhere, form, echo(datatype), {"x": x}).arrays()["output"], x)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize(("form", "datatype"), CARRIED)
def test_empty_tensors_keep_their_shape(everywhere: Served, form: str, datatype: str, shape: tuple[int, int]) -> None:
    x = np.empty(shape, DATATYPES[datatype])
    assert same(ask_arrays(everywhere, form, echo(datatype), {"x": x}).arrays()["output"], x)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_json_does_not_carry_16_bit_floats_and_says_what_does(shared: Served, datatype: str) -> None:
    x = np.ones((1, 1), DATATYPES[datatype])
    refused = shared.http.infer(echo(datatype), {"x": x})
    assert (refused.status, refused.code()) == (400, "invalid_request")
    assert datatype in refused.json()["error"]
    assert "binary_data_size" in refused.json()["error"]


@pytest.mark.parametrize("output", ["half", "brain"])
def test_json_outputs_of_16_bits_are_refused_and_say_what_helps(shared: Served, output: str) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.5]}
    content: dict[str, Any] = {"inputs": [tensor], "outputs": [{"name": output}]}
    refused = shared.http.post("/v2/models/narrow/infer", content)
    assert (refused.status, refused.code()) == (400, "invalid_request")
    for word in (output, "binary_data"):
        assert word in refused.json()["error"]
    content["outputs"][0]["parameters"] = {"binary_data": True}
    assert shared.http.post("/v2/models/narrow/infer", content).arrays()[output].tolist() == [[1.5]]


def test_json_output_that_is_no_utf8_is_refused_and_says_what_helps(shared: Served) -> None:
    x = np.array([[b"\xff"]], object)
    refused = shared.http.infer_binary("echo_bytes", {"x": x}, binary_output=False)
    assert (refused.status, refused.code()) == (400, "invalid_request")
    assert "binary_data" in refused.json()["error"]


def test_nan_and_infinities_are_null_in_json(everywhere: Served) -> None:
    answer = everywhere.http.infer("special", {"x": np.zeros(1, np.float32)})
    assert answer.body.count(b"null") == 6
    single, double = answer.json()["outputs"]
    for output in (single, double):
        assert output["data"][:3] == [None, None, None]
        assert str(output["data"][3:]) == "[-0.0, 1.5]"


@pytest.mark.parametrize(
    "value", ["0.1", "1e-45", "3.4028235e38", "16777217", "1e-400", "-0", "1E+2", "0.30000001192092896"]
)
def test_json_numbers_are_rounded_as_ieee_says(shared: Served, value: str) -> None:
    body = '{"inputs":[{"name":"x","datatype":"%s","shape":[1,1],"data":[%s]}]}'
    for datatype, dtype in (("FP32", np.float32), ("FP64", np.float64)):
        answer = shared.http.request("POST", f"/v2/models/{echo(datatype)}/infer", (body % (datatype, value)).encode())
        assert same(answer.arrays()["output"], np.array([[float(value)]]).astype(dtype))


def test_nesting_of_json_data_does_not_matter(shared: Served) -> None:
    for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]], [[[1], [2, 3]], [4, 5, 6]]):
        tensor = {"name": "x", "datatype": "INT32", "shape": [2, 3], "data": data}
        answer = shared.http.post("/v2/models/echo_int32/infer", {"inputs": [tensor]})
        assert answer.arrays()["output"].tolist() == [[1, 2, 3], [4, 5, 6]]
