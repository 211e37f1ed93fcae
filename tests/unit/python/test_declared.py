"""What samovar.toml says of one model."""

import tomllib
from typing import Any

import pytest

from samovar.config.declared import Declared, DeclaredTensor, read_declared
from samovar.errors import ConfigError
from samovar.types import Datatype

FULL = """
max_batch_size = 32
max_queue_delay_ms = "auto"
batch_axis = true
inputs = [{ name = "x", datatype = "FP32", shape = ["batch", 3, -1, "width"] }, { name = "mask" }]
outputs = [{ name = "logits", shape = [] }]
"""


def read(text: str) -> Declared:
    return read_declared(tomllib.loads(text), "in m/samovar.toml")


def test_every_key_is_read() -> None:
    found = read(FULL)
    assert found.options == {"max_batch_size": 32, "max_queue_delay_ms": "auto"}
    assert found.inputs == (
        DeclaredTensor("x", Datatype.FP32, ("batch", 3, -1, "width")),
        DeclaredTensor("mask"),
    )
    assert found.outputs == (DeclaredTensor("logits", None, ()),)
    assert found.batch_axis is True


@pytest.mark.parametrize("text", ["", FULL, "batch_axis = false", "inputs = []"])
def test_its_json_reads_as_the_same(text: str) -> None:
    assert read_declared(read(text).to_json(), "") == read(text)


def test_the_upper_layer_wins_key_by_key() -> None:
    upper, lower = read("instances = 2\nbatch_axis = false\ninputs = []"), read(FULL)
    both = upper.over(lower)
    assert both.options == {"max_batch_size": 32, "max_queue_delay_ms": "auto", "instances": 2}
    assert (both.inputs, both.outputs, both.batch_axis) == ((), lower.outputs, False)
    assert Declared().over(lower) == lower


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("instance = 2", 'unknown setting "instance" in m/samovar.toml; did you mean "instances"?'),
        ("input = []", 'unknown setting "input" in m/samovar.toml; did you mean "inputs"?'),
        ("instances = 0", 'setting "instances" in m/samovar.toml is 0; it wants a whole number >= 1 and <= 1024'),
        ("batch_axis = 1", 'setting "batch_axis" in m/samovar.toml is 1; it wants true or false'),
        (
            'inputs = ["x"]',
            (
                'setting "inputs" in m/samovar.toml is no list of tables; '
                'write inputs = [{ name = "x", datatype = "FP32", shape = ["batch", 3] }]'
            ),
        ),
        (
            "outputs = [{ datatype = 'FP32' }]",
            (
                'setting "outputs" in m/samovar.toml has a tensor without a name; '
                'write for instance { name = "x", datatype = "FP32", shape = ["batch", 3] }'
            ),
        ),
        (
            "inputs = [{ name = 'x', dtype = 'FP32' }]",
            'unknown key "dtype" in setting "inputs" in m/samovar.toml; did you mean "datatype"?',
        ),
        (
            "inputs = [{ name = 'x', datatype = 'fp32' }]",
            'datatype \'fp32\' of "x" in setting "inputs" in m/samovar.toml is unknown; did you mean "FP32"?',
        ),
        (
            "inputs = [{ name = 'x', shape = [-2] }]",
            (
                'shape [-2] of "x" in setting "inputs" in m/samovar.toml is none; '
                'list a length for each axis, -1 or a name for any: ["batch", 3, -1]'
            ),
        ),
        (
            "inputs = [{ name = 'x', shape = [3, 'batch'] }]",
            (
                'shape [3, \'batch\'] of "x" in setting "inputs" in m/samovar.toml has "batch" as axis 1; '
                "only the first can be"
            ),
        ),
        (
            "inputs = [{ name = 'x' }, { name = 'x' }]",
            'setting "inputs" in m/samovar.toml has "x" twice; each name stands for one tensor',
        ),
    ],
)
def test_what_does_not_fit_is_told(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("shape", [3, True, [True], [1.5], [""], [1] * 17])
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    with pytest.raises(ConfigError, match=r"^shape "):
        read_declared({"inputs": [{"name": "x", "shape": shape}]}, "")
