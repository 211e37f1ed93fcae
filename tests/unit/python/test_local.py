"""A model in this process: what it takes, what it gives, and what is told of what does not fit."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import models
import samovar
from samovar.errors import ConfigError, InputError, LoadError, OutputError, SamovarError, TargetError

Program = Callable[..., Path]


@pytest.fixture
def double(tmp_path: Path) -> Path:
    return models.scale(tmp_path / "double.onnx")


def test_a_file_is_a_model(double: Path) -> None:
    with samovar.load(double) as model:
        assert (model.name, model.version) == ("double", "1")
        assert [tensor.name for tensor in model.signature.inputs] == ["x"]
        assert repr(model) == '<model "double" (onnx): x FP32 [batch,3] -> output FP32 [batch,3]>'
        x = np.ones((2, 3), np.float32)
        output = model.predict(x)
        assert (output.dtype, output.tolist()) == (np.float32, [[2, 2, 2]] * 2)
        assert model.predict(x=x).tolist() == output.tolist()


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2, 3]],
        ((1.0, 2, 3),),
        [np.array([1, 2, 3])],
        [[np.float32(1), np.int64(2), 3]],
        np.array([[1, 2, 3]], ">f4"),
    ],
)
def test_lists_and_numbers_get_the_declared_dtype(double: Path, value: Any) -> None:
    with samovar.load(double) as model:
        assert model.predict(value).tolist() == [[2, 4, 6]]


def test_several_outputs_are_found_by_name_and_place(tmp_path: Path) -> None:
    with samovar.load(models.sums(tmp_path / "sums.onnx")) as model:
        results = model.predict([[1, 2, 3]], b=[[1, 1, 1]])
        assert results.total.tolist() == results["total"].tolist() == results[0].tolist() == [[2, 3, 4]]
        total, difference = results
        assert (total.tolist(), difference.tolist()) == ([[2, 3, 4]], [[0, 1, 2]])
        with pytest.raises(KeyError):
            results["sum"]


def test_names_that_no_attribute_can_have_are_keys(tmp_path: Path) -> None:
    nodes = [models.node("Identity", ["in:0"], [name]) for name in ("scores:0", "class", "_hidden")]
    outputs = [(name, "FLOAT", ("N",)) for name in ("scores:0", "class", "_hidden")]
    path = models.write(tmp_path / "odd.onnx", nodes, [("in:0", "FLOAT", ("N",))], outputs)
    with samovar.load(path) as model:
        results = model.predict(**{"in:0": [1]})
        assert [results[name].tolist() for name in ("scores:0", "class", "_hidden")] == [[1]] * 3


@pytest.mark.parametrize("text", [["ä", "b"], [b"\xc3\xa4", b"b"], np.array(["ä", "b"]), np.array(["ä", b"b"], object)])
def test_texts_are_bytes_as_a_client_gets_them(tmp_path: Path, text: Any) -> None:
    with samovar.load(models.echo(tmp_path / "m.onnx", "STRING", ("N",))) as model:
        assert model.predict(text).tolist() == [b"\xc3\xa4", b"b"]


def test_bfloat16_and_empty_batches_pass(tmp_path: Path) -> None:
    with samovar.load(models.echo(tmp_path / "m.onnx", "BFLOAT16")) as model:
        for shape in ((2, 3), (0, 3)):
            output = model.predict(np.ones(shape, ml_dtypes.bfloat16))
            assert (output.dtype, output.shape) == (np.dtype(ml_dtypes.bfloat16), shape)
    with samovar.load(models.echo(tmp_path / "scalar.onnx", "FLOAT", ())) as model:
        assert model.predict(2.5) == 2.5


MISFITS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "dtype": (
        (np.ones((1, 3)),),
        {},
        'input "x" of model "double": dtype float64, wanted float32; convert it with .astype(\'float32\')',
    ),
    "axis": (
        (np.ones((1, 4), np.float32),),
        {},
        'input "x" of model "double": shape [1,4] does not fit [batch,3]; axis 1 must be 3',
    ),
    "rank": (([1, 2, 3],), {}, 'input "x" of model "double": shape [3] does not fit [batch,3]; it wants 2 axes'),
    "ragged": (
        ([[1, 2, 3], [1]],),
        {},
        'input "x" of model "double": its lists are not equally long: 3 and 1; give an array, or nested lists',
    ),
    "kind": (
        ([["a", 2, 3]],),
        {},
        'input "x" of model "double": \'a\' is not a number (FP32); give an array, or nested lists',
    ),
    "missing": ((), {}, 'input "x" of model "double" is missing; its inputs are: x'),
    "unknown": ((), {"y": 1}, 'model "double" has no input "y"; its inputs are: x'),
    "twice": (([],), {"x": []}, 'input "x" of model "double" is given twice; by position or by name, not both'),
    "many": (([], []), {}, 'model "double" takes 1 inputs, got 2; they are: x'),
}


@pytest.mark.parametrize(("args", "kwargs", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_told(double: Path, args: Any, kwargs: dict[str, Any], message: str) -> None:
    with samovar.load(double) as model, pytest.raises(InputError) as caught:
        model.predict(*args, **kwargs)
    assert str(caught.value) == message


def test_inputs_have_equally_many_rows(tmp_path: Path) -> None:
    with (
        samovar.load(models.sums(tmp_path / "sums.onnx")) as model,
        pytest.raises(InputError, match=r'^input "b" of model "sums" has 2 rows, the inputs before it 1; give equally'),
    ):
        model.predict(np.ones((1, 3), np.float32), np.ones((2, 3), np.float32))


def test_a_fault_of_the_model_is_its_own(tmp_path: Path) -> None:
    with (
        samovar.load(models.lookup(tmp_path / "m.onnx")) as model,
        pytest.raises(Exception, match="out of data bounds") as caught,
    ):
        model.predict([9])
    assert not isinstance(caught.value, SamovarError)


def test_a_closed_model_says_so(double: Path) -> None:
    model = samovar.load(double)
    model.close()
    model.close()
    with pytest.raises(InputError, match=r'^model "double" is closed; load it again$'):
        model.predict([[1, 2, 3]])


def test_settings_beside_the_file_count(tmp_path: Path) -> None:
    path = models.echo(tmp_path / "m.onnx", shape=(None, 3))
    (tmp_path / "samovar.toml").write_text("batch_axis = true\nthreads = 1\n")
    assert samovar.load(path).signature.batch_axis
    (tmp_path / "samovar.toml").write_text("batchaxis = true\n")
    with pytest.raises(ConfigError, match=r'^unknown setting "batchaxis" in .*; did you mean "batch_axis"\?$'):
        samovar.load(path)


def test_a_folder_with_one_version_is_a_model(tmp_path: Path) -> None:
    models.scale(tmp_path / "stn" / "3" / "model.onnx")
    with samovar.load(tmp_path / "stn") as model:
        assert (model.name, model.version) == ("stn", "3")
    models.scale(tmp_path / "stn" / "4" / "model.onnx")
    with pytest.raises(TargetError, match=r'stn" has 2 model files; name the file of one: '):
        samovar.load(tmp_path / "stn")


CLASSES = """
@samovar.model
class Count:
    def load(self):
        self.calls = 0
    def predict(self, x: Float32[np.ndarray, "batch 2"]) -> Float32[np.ndarray, "batch 2"]:
        self.calls += 1
        return x * self.calls
    def unload(self):
        seen.append(self.calls)

@samovar.model
class Writes:
    def predict(self, x: Float32[np.ndarray, "batch 2"]) -> Float32[np.ndarray, "batch 2"]:
        x += 1
        return x

@samovar.model(writable_inputs=True)
class Copies(Writes):
    pass

@samovar.model
class Wrong:
    def predict(self, x: Float32[np.ndarray, "batch 2"]) -> Float32[np.ndarray, "batch 2"]:
        return {0: x.astype("f8"), 1: x[:, :1], 2: x[:0]}[len(x) - 1]

seen = []
"""


def test_a_class_of_a_file_is_a_model(program: Program) -> None:
    path = program(CLASSES)
    with samovar.load(f"{path}:Count") as model:
        assert model.predict([[1, 2]]).tolist() == [[1, 2]]
        assert model.predict([[1, 2]]).tolist() == [[2, 4]]
    assert __import__("sys").modules[path.stem].seen == [2]
    with pytest.raises(
        TargetError, match=r"has 4 models; name one: served_program.py:Count, served_program.py:Writes,"
    ):
        samovar.load(path)


def test_inputs_are_not_written_to(program: Program) -> None:
    path = program(CLASSES)
    x = np.zeros((1, 2), np.float32)
    with samovar.load(f"{path}:Writes") as model, pytest.raises(ValueError, match="read-only"):
        model.predict(x)
    with samovar.load(f"{path}:Copies") as model:
        assert model.predict(x).tolist() == [[1, 1]]
    assert x.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (1, 'output "output" of model "wrong": dtype float64, declared float32; convert it'),
        (2, 'output "output" of model "wrong": shape [2,1] does not fit [batch,2]; axis 1 must be 2'),
        (3, 'output "output" of model "wrong": 0 rows for 3; return one row for each row of the inputs'),
    ],
)
def test_results_are_checked_as_an_engine_checks_them(program: Program, rows: int, message: str) -> None:
    with samovar.load(f"{program(CLASSES)}:Wrong") as model, pytest.raises(OutputError) as caught:
        model.predict(np.ones((rows, 2), np.float32))
    assert str(caught.value) == message


ASYNC = """
import asyncio

@samovar.model
class Later:
    async def load(self):
        self.loop = asyncio.get_running_loop()
    async def predict(self, x: Float32[np.ndarray, "batch"]) -> Float32[np.ndarray, "batch"]:
        assert asyncio.get_running_loop() is self.loop
        return x
"""


def test_a_coroutine_runs_in_one_loop_even_below_another(program: Program) -> None:
    with samovar.load(program(ASYNC)) as model:

        async def notebook() -> Any:
            return model.predict([1]).tolist()

        assert asyncio.run(notebook()) == model.predict([1]).tolist() == [1]


def test_a_load_that_raises_is_told(program: Program) -> None:
    text = 'class M:\n    def load(self): raise OSError("no weights")\n    def predict(self, x: A) -> A: ...\n'
    path = program('A = Float32[np.ndarray, "batch"]\n@samovar.model\n' + text)
    with pytest.raises(LoadError, match=r"^M.load\(\) raised OSError: no weights"):
        samovar.load(path)


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"does not exist"):
        samovar.load(tmp_path / "none.onnx")


def test_settings_complete_what_the_file_says(tmp_path: Path) -> None:
    path = models.echo(tmp_path / "m.onnx", shape=(None, None))
    (tmp_path / "samovar.toml").write_text("batch_axis = false\nthreads = 1\n")
    inputs = [{"name": "x", "shape": ["batch", 3]}]
    with samovar.load(path, inputs=inputs, batch_axis=True) as model:
        assert repr(model) == '<model "m" (onnx): x FP32 [batch,3] -> output FP32 [batch,-1]>'
    with pytest.raises(TargetError, match=r'^input "x" of m.onnx is FP32, not the INT8 declared'):
        samovar.load(path, inputs=[{"name": "x", "datatype": "INT8"}])
    with pytest.raises(ConfigError, match=r'^unknown setting "input" in samovar.load; did you mean "inputs"\?$'):
        samovar.load(path, input=[])
    with pytest.raises(ConfigError, match=r'^unknown runtime option "x" of m.onnx|^setting "runtime_options" in'):
        samovar.load(path, runtime_options=3)


def test_settings_say_the_format_of_a_file_and_of_a_folder(tmp_path: Path, double: Path) -> None:
    path = double.rename(tmp_path / "double.bin")
    with pytest.raises(TargetError, match=r"^double.bin has no format that is served"):
        samovar.load(path)
    with samovar.load(path, runtime="onnx") as model:
        assert model.predict([[1, 2, 3]]).tolist() == [[2, 4, 6]]
    with pytest.raises(ConfigError, match=r'^there is no runtime "onxn"; did you mean "onnx"\?$'):
        samovar.load(path, runtime="onxn")


def test_a_class_says_itself_what_a_file_may_leave_open(program: Program) -> None:
    path = program(CLASSES)
    with samovar.load(f"{path}:Writes", writable_inputs=True) as model:
        assert model.predict([[0, 0]]).tolist() == [[1, 1]]
    with pytest.raises(ConfigError, match=r'sets "batch_axis", but the model is a Python class; remove it'):
        samovar.load(f"{path}:Writes", batch_axis=True)


def test_a_handle_without_an_engine_has_its_settings(tmp_path: Path) -> None:
    path = models.echo(tmp_path / "m.onnx", shape=(None, 3))

    class User:
        plain = samovar.use(path)
        batched = samovar.use(path, batch_axis=True)

    assert User.plain.predict.sync([[1, 2, 3]]).tolist() == [[1, 2, 3]]
    with pytest.raises(InputError, match=r"\[batch,3\]"):
        User.batched.predict.sync([[1]])
