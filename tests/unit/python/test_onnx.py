"""What is read from an ONNX file, what its calls give, and what is told of one that cannot be served."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import models
from samovar.config import Configuration, ServerConfig
from samovar.config.declared import Declared, read_declared
from samovar.errors import ConfigError, InvalidInputError, LoadError, TargetError
from samovar.runtimes import Question, runtime_for
from samovar.runtimes.onnx import inspect, load
from samovar.types import Datatype

KINDS = {
    "FLOAT": "FP32", "DOUBLE": "FP64", "FLOAT16": "FP16", "BFLOAT16": "BF16", "BOOL": "BOOL", "STRING": "BYTES",
    "INT8": "INT8", "INT16": "INT16", "INT32": "INT32", "INT64": "INT64",
    "UINT8": "UINT8", "UINT16": "UINT16", "UINT32": "UINT32", "UINT64": "UINT64",
}  # fmt: skip


def described(path: Path, **declared: Any) -> dict[str, Any]:
    (description,) = inspect(Question(path, declared=read_declared(declared, "in samovar.toml")))
    return description


def calls(path: Path, *inputs: Any) -> list[Any]:
    """The outputs of one call, as a worker would make it."""
    description = described(path)
    options = Configuration(ServerConfig()).model_options("m", {}, batch_axis=description["batch_axis"])
    model = load({**description, "options": options})
    model.start()
    outputs: list[Any] = list(model.predict(list(inputs)))
    model.close()
    return outputs


def test_a_file_is_described_whole(tmp_path: Path) -> None:
    path = models.scale(tmp_path / "double.onnx")
    assert runtime_for(path).inspect(Question(path)) == [
        {
            "name": "double",
            "version": "1",
            "runtime": "onnx",
            "source": {
                "path": str(path),
                "uses": {},
                "read_from": "the graph",
                "runtime_options": {
                    "optimization": "all",
                    "save_optimized": None,
                    "execution_mode": "sequential",
                    "providers": ["CPUExecutionProvider"],
                    "share_weights": False,
                },
            },
            "inputs": [{"name": "x", "datatype": "FP32", "dims": [3]}],
            "outputs": [{"name": "output", "datatype": "FP32", "dims": [3]}],
            "batch_axis": True,
            "streams": False,
            "service": None,
            "options": {},
            "imports": ["numpy", "onnxruntime"],
        }
    ]


def test_a_folder_names_model_and_version(tmp_path: Path) -> None:
    path = models.scale(tmp_path / "model.onnx")
    (found,) = inspect(Question(path, name="stn", version="3"))
    assert (found["name"], found["version"]) == ("stn", "3")


@pytest.mark.parametrize(("kind", "datatype"), KINDS.items())
def test_every_datatype_is_read_and_runs(tmp_path: Path, kind: str, datatype: str) -> None:
    path = models.echo(tmp_path / "m.onnx", kind)
    assert described(path)["inputs"] == [{"name": "x", "datatype": datatype, "dims": [-1]}]
    if kind == "STRING":
        (output,) = calls(path, np.array([["ä".encode(), "b"], [b"", b"d"]], object))
        assert output.tolist() == [["ä", "b"], ["", "d"]]
        return
    dtype = np.dtype(Datatype[datatype].numpy_name) if datatype != "BF16" else np.dtype(ml_dtypes.bfloat16)
    for shape in ((2, 3), (0, 3)):
        array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        array.flags.writeable = False
        (output,) = calls(path, array)
        assert (output.dtype, output.shape, output.tobytes()) == (array.dtype, shape, array.tobytes())
        assert output.flags.c_contiguous


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    path = models.sums(tmp_path / "sums.onnx")
    found = described(path)
    assert [tensor["name"] for tensor in found["inputs"]] == ["a", "b"]
    assert [tensor["name"] for tensor in found["outputs"]] == ["total", "difference"]
    assert found["batch_axis"]
    one, two = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    total, difference = calls(path, one, two)
    assert (total == 3).all()
    assert (difference == -1).all()


def test_weights_in_a_file_beside_it_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models.large(tmp_path / "large.onnx")
    assert path.with_suffix(".weights").stat().st_size > path.stat().st_size
    monkeypatch.chdir("/")
    (output,) = calls(path, np.zeros((1, 4_000), np.float32))
    assert output[0, -1] == 3_999


def test_a_constant_that_old_exporters_list_as_an_input_is_none(tmp_path: Path) -> None:
    nodes = [models.node("Add", ["x", "w"], ["output"])]
    inputs = [("x", "FLOAT", ("batch", 2)), ("w", "FLOAT", (2,))]
    weights = {"w": np.array([1, 2], np.float32)}
    path = models.write(tmp_path / "m.onnx", nodes, inputs, [("output", "FLOAT", ("batch", 2))], weights)
    assert [tensor["name"] for tensor in described(path)["inputs"]] == ["x"]


def test_a_model_without_inputs_runs(tmp_path: Path) -> None:
    weights = {"c": np.array([1, 2], np.float32)}
    nodes = [models.node("Identity", ["c"], ["output"])]
    path = models.write(tmp_path / "m.onnx", nodes, [], [("output", "FLOAT", (2,))], weights)
    found = described(path)
    assert (found["inputs"], found["batch_axis"]) == ([], False)
    assert calls(path)[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("shape", "outcome", "batch_axis", "dims"),
    [
        (("batch", 3), ("batch", 3), True, [3]),
        (("bs", 3), ("bs", 3), True, [3]),
        (("N", "width"), ("N", "width"), True, [-1]),
        (("batch", 3), ("found", 3), False, [-1, 3]),  # boxes in an image, for example
        (("batch", 3), (None, 3), False, [-1, 3]),
        (("n", "time"), ("time", "n"), False, [-1, -1]),  # rows of something else
        ((None, 3), (None, 3), False, [-1, 3]),
        (("time", 3), ("time", 3), False, [-1, 3]),
        (("batch", 3), (1, 3), False, [-1, 3]),
        ((1, 3), (1, 3), False, [1, 3]),
        ((), (), False, []),
        (None, None, False, None),
    ],
)
def test_the_names_of_axes_say_whether_the_first_is_the_batch(
    tmp_path: Path,
    shape: Sequence[models.Axis] | None,
    outcome: Sequence[models.Axis] | None,
    batch_axis: bool,
    dims: list[int] | None,
) -> None:
    # A shape of the output that the graph does not compute, or onnxruntime would see through it.
    nodes = [models.node("NonZero", ["x"], ["n"]), models.node("Shape", ["n"], ["s"])]
    nodes += [models.node("ConstantOfShape", ["s"], ["z"]), models.node("Reshape", ["z", "s"], ["output"])]
    path = models.write(tmp_path / "m.onnx", nodes, [("x", "FLOAT", shape)], [("output", "FLOAT", outcome)])
    found = described(path)
    assert (found["batch_axis"], found["inputs"][0]["dims"]) == (batch_axis, dims)


@pytest.mark.parametrize(
    ("shape", "outcome"),
    [
        (("batch_size", 3), ("unk__0", 3)),
        (("N", "width"), ("Reshapeoutput_dim_0", "width")),
        (("bs", 3), (None, 3)),
        (("batch", 3), (1, 3)),  # that of the exporter's example
        (("batch", 3), ("batch",)),
    ],
)
def test_an_output_that_is_as_long_as_the_batch_has_it_whatever_its_axis_is_called(
    tmp_path: Path, shape: Sequence[models.Axis], outcome: Sequence[models.Axis]
) -> None:
    nodes = [models.node("Shape", ["x"], ["s"]), models.node("Reshape", ["x", "s"], ["output"])]
    path = models.write(tmp_path / "m.onnx", nodes, [("x", "FLOAT", shape)], [("output", "FLOAT", outcome)])
    assert described(path)["batch_axis"]
    assert calls(path, np.ones((2, 3), np.float32))[0].shape == (2, 3)


def test_an_output_that_has_other_rows_than_the_inputs_is_of_no_batch(tmp_path: Path) -> None:
    weights = {"s": np.array([-1, 3])}
    nodes = [models.node("Reshape", ["x", "s"], ["output"])]
    inputs, outputs = [("x", "FLOAT", ("batch", 2, 3))], [("output", "FLOAT", ("Reshapeoutput_dim_0", 3))]
    found = described(models.write(tmp_path / "m.onnx", nodes, inputs, outputs, weights))
    assert (found["batch_axis"], found["outputs"][0]["dims"]) == (False, [-1, 3])
    assert 'output "output" has not a row for each row of the inputs' in found["source"]["note"]


def test_a_graph_that_quantises_by_the_range_of_a_call_joins_none(tmp_path: Path) -> None:
    nodes = [
        models.node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        models.node("DequantizeLinear", ["q", "scale", "zero"], ["output"]),
    ]
    inputs, outputs = ([(name, "FLOAT", ("batch", 2))] for name in ("x", "output"))
    path = models.write(tmp_path / "m.onnx", nodes, inputs, outputs)
    found = described(path)
    assert (found["batch_axis"], found["inputs"][0]["dims"]) == (False, [-1, 2])
    assert "quantises by the range of all rows" in found["source"]["note"]
    assert described(path, batch_axis=True)["batch_axis"]


@pytest.mark.parametrize(
    ("producer", "axes"),
    [("skl2onnx", (None, None, 1)), ("OnnxMLTools", (None, None, 1)), ("tf2onnx", ("unk__6", "unk__7", "unk__8"))],
)
def test_converters_that_do_not_name_the_batch_are_known(
    tmp_path: Path, producer: str, axes: Sequence[models.Axis]
) -> None:
    import onnx

    nodes = [models.node("Add", ["a", "b"], ["c"]), models.node("Shape", ["a"], ["s"])]
    nodes += [models.node("Reshape", ["c", "s"], ["output"])]
    inputs = [(name, "FLOAT", (axis, 2)) for name, axis in zip("ab", axes, strict=False)]
    path = models.write(tmp_path / "m.onnx", nodes, inputs, [("output", "FLOAT", (axes[2], 2))])
    found = described(path)
    assert not found["batch_axis"]
    model = onnx.load(path)
    model.producer_name = producer
    onnx.save(model, path)
    assert described(path)["batch_axis"]
    assert calls(path, *(np.ones((2, 2), np.float32) for _ in "ab"))[0].shape == (2, 2)


def test_a_first_axis_without_a_name_is_told(tmp_path: Path) -> None:
    path = models.echo(tmp_path / "m.onnx", shape=("s77", 3))
    assert 'the first axis is not called "batch"' in described(path)["source"]["note"]
    for declared in ({"batch_axis": True}, {"batch_axis": False}):
        assert "note" not in described(path, **declared)["source"]


def test_a_batch_axis_may_be_the_only_one(tmp_path: Path) -> None:
    found = described(models.lookup(tmp_path / "m.onnx"))
    assert (found["batch_axis"], found["inputs"][0]["dims"], found["outputs"][0]["dims"]) == (True, [], [])


def test_axes_of_unlike_names_are_not_one_batch(tmp_path: Path) -> None:
    nodes = [models.node("Identity", ["a"], ["output"]), models.node("Identity", ["b"], ["other"])]
    inputs, outputs = (
        [(name, "FLOAT", (f"batch_{name}", 2)) for name in names] for names in ("ab", ("output", "other"))
    )
    assert not described(models.write(tmp_path / "m.onnx", nodes, inputs, outputs))["batch_axis"]


def test_samovar_toml_says_or_denies_the_batch_axis(tmp_path: Path) -> None:
    unnamed = models.echo(tmp_path / "unnamed.onnx", shape=(None, 3))
    assert described(unnamed, batch_axis=True)["inputs"] == [{"name": "x", "datatype": "FP32", "dims": [3]}]
    assert described(models.scale(tmp_path / "named.onnx"), batch_axis=False)["batch_axis"] is False
    shapes = {key: [{"name": name, "shape": ["batch", 3]}] for key, name in (("inputs", "x"), ("outputs", "output"))}
    assert described(unnamed, **shapes)["batch_axis"]


def test_samovar_toml_narrows_what_the_file_leaves_open(tmp_path: Path) -> None:
    path = models.echo(tmp_path / "m.onnx", shape=("batch", None))
    found = described(path, inputs=[{"name": "x", "datatype": "FP32", "shape": ["batch", 8]}], max_batch_size=4)
    assert (found["inputs"][0]["dims"], found["options"]) == ([8], {"max_batch_size": 4})
    free = models.echo(tmp_path / "free.onnx", shape=None)
    assert described(free, inputs=[{"name": "x", "shape": [2, "rows"]}])["inputs"][0]["dims"] == [2, -1]


DECLARED_BADLY: dict[str, tuple[dict[str, Any], str]] = {
    "name": (
        {"inputs": [{"name": "y"}]},
        'input "y" is declared in samovar.toml, but m.onnx has none of that name; it has "x"',
    ),
    "datatype": (
        {"outputs": [{"name": "output", "datatype": "FP16"}]},
        'output "output" of m.onnx is FP32, not the FP16 declared in samovar.toml; correct it there',
    ),
    "length": (
        {"inputs": [{"name": "x", "shape": ["batch", 4]}]},
        'input "x" of m.onnx has the shape [1,3], not the [batch,4] declared in samovar.toml; correct it there',
    ),
    "rank": (
        {"inputs": [{"name": "x", "shape": [3]}]},
        'input "x" of m.onnx has the shape [1,3], not the [3] declared in samovar.toml; correct it there',
    ),
    "batch axis": (
        {"batch_axis": True},
        (
            'batch_axis = true, but input "x" of m.onnx has the shape [1,3], whose first axis has a fixed length; '
            "export the model with a dynamic first axis, or remove batch_axis"
        ),
    ),
}


@pytest.mark.parametrize(("declared", "message"), DECLARED_BADLY.values(), ids=DECLARED_BADLY)
def test_a_declaration_that_contradicts_the_file_is_told(
    tmp_path: Path, declared: dict[str, Any], message: str
) -> None:
    with pytest.raises(TargetError) as caught:
        described(models.echo(tmp_path / "m.onnx", shape=(1, 3)), **declared)
    assert str(caught.value) == message


def test_a_batch_axis_needs_shapes(tmp_path: Path) -> None:
    for shape, fault in ((None, "has an unknown shape; declare it"), ((), "is a scalar; remove batch_axis")):
        with pytest.raises(TargetError, match=fault):
            described(models.echo(tmp_path / "m.onnx", shape=shape), batch_axis=True)


FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "m.onnx is empty, no ONNX model; fetch the file again"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "m.onnx is a pointer of Git LFS to the file, no ONNX model; run: git lfs pull",
    ),
    "page": (
        b"\n<!DOCTYPE HTML><title>Log in</title>",
        (
            "m.onnx is an HTML page: what a server sent in place of the file, no ONNX model; "
            "fetch the file again; its address may want a login"
        ),
    ),
    "gzip": (
        gzip.compress(b"x"),
        "m.onnx is compressed by gzip, no ONNX model; unpack it with gunzip, or with tar -xzf",
    ),
    "zip": (
        b"PK\x03\x04" + bytes(99),
        (
            "m.onnx is a zip archive (of PyTorch, Keras or another), no ONNX model; "
            "unpack it, or give it the suffix of its format"
        ),
    ),
    "pickle": (
        b"\x80\x04\x95" + bytes(99),
        (
            "m.onnx is a Python pickle, no ONNX model; "
            "write a Python class that loads it, and export the model where you can"
        ),
    ),
    "text": (
        b"import torch\n",
        "m.onnx is a text that begins with 'import torch\\n', no ONNX model; give the file of the model",
    ),
    "noise": (bytes(range(255, 0, -1)), "m.onnx is no ONNX model; give the file that an exporter wrote"),
    "message": (b"\x08\x0a", "m.onnx is no ONNX model; give the file that an exporter wrote"),
}


@pytest.mark.parametrize(("content", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_told_for_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(TargetError) as caught:
        described(path)
    assert str(caught.value) == message


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    whole = models.scale(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(
            TargetError, match=r"^cut.onnx is (no ONNX model|cut off: \d+ bytes)|^onnxruntime .* cannot"
        ):
            described(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TargetError, match=r"^cut.onnx is cut off: .*; fetch or export the file again$"):
        described(path)


def identity(path: Path, **options: Any) -> Path:
    nodes = [models.node(options.pop("operator", "Identity"), ["x"], ["output"], **options.pop("attributes", {}))]
    kinds = options.pop("kinds", ("FLOAT", "FLOAT"))
    inputs, outputs = ([(name, kind, ("batch", 2))] for name, kind in zip(("x", "output"), kinds, strict=True))
    return models.write(path, nodes, inputs, outputs, **options)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "opset": (
        {"opset": 99},
        (
            r"m.onnx is of opset 99, newer than onnxruntime knows; "
            r"upgrade onnxruntime \(it is [\d.]+\), or export for an older opset"
        ),
    ),
    "ir": ({"ir_version": 99}, r"m.onnx is of IR version 99, newer than onnxruntime knows; upgrade"),
    "operator": (
        {"operator": "Nope"},
        r"m.onnx uses the operator Nope, which onnxruntime [\d.]+ does not have; upgrade",
    ),
    "custom": (
        {"attributes": {"domain": "com.acme"}},
        (
            r"m.onnx uses operators of com.acme, which onnxruntime does not have; export the model "
            r"without custom operators"
        ),
    ),
    "float8": (
        {"operator": "Cast", "attributes": {"to": 17}, "kinds": ("FLOAT", "FLOAT8E4M3FN"), "opset": 19},
        r'output "output" of m.onnx is tensor\(float8e4m3fn\), no tensor that can be sent; cast it to one of BOOL, ',
    ),
    "other": (
        {"operator": "Concat"},
        r"onnxruntime [\d.]+ cannot load m.onnx: (?!\[).*; check the file with onnx.checker",
    ),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_onnxruntime_refuses_is_told_with_its_cure(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=f"^{message}") as caught:
        described(identity(tmp_path / "m.onnx", **options))
    assert "ONNXRuntimeError" not in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)


def test_weights_that_are_cut_off_are_told(tmp_path: Path) -> None:
    path = models.large(tmp_path / "large.onnx")
    path.with_suffix(".weights").write_bytes(b"0" * 10)
    with pytest.raises(TargetError) as caught:
        described(path)
    assert str(caught.value) == (
        "the file with the weight weights of large.onnx is cut off, or of another model: it has 10 bytes; "
        "fetch or export both files again"
    )


def test_weights_elsewhere_are_told(tmp_path: Path) -> None:
    path = models.large(tmp_path / "large.onnx")
    path.write_bytes(path.read_bytes().replace(b"large.weights", b"../ge.weights"))
    path.with_suffix(".weights").rename(tmp_path.parent / "ge.weights")
    with pytest.raises(TargetError, match=r"^large.onnx has weights in a file outside of its folder"):
        described(path)


def test_what_onnxruntime_says_of_a_call_is_told_without_its_source(tmp_path: Path) -> None:
    weights = {"s": np.array([1, 3])}
    nodes = [models.node("Reshape", ["x", "s"], ["output"], name="fold")]
    path = models.write(tmp_path / "m.onnx", nodes, [("x", "FLOAT", ("n", 3))], [("output", "FLOAT", (1, 3))], weights)
    with pytest.raises(RuntimeError, match=r"^Reshape fold: .* The input tensor cannot be reshaped"):
        calls(path, np.ones((2, 3), np.float32))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = models.large(tmp_path / "large.onnx")
    path.with_suffix(".weights").unlink()
    with pytest.raises(TargetError) as caught:
        described(path)
    assert str(caught.value) == (
        f"the weights of large.onnx are in {path.with_suffix('.weights')}, which does not exist; "
        "put that file there: it belongs to the model"
    )


def test_a_sequence_is_refused_with_its_cure(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    path = tmp_path / "m.onnx"
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    output = helper.make_tensor_sequence_value_info("output", onnx.TensorProto.FLOAT, [2])
    graph = helper.make_graph([models.node("SequenceConstruct", ["x"], ["output"])], "graph", [x], [output])
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), path)
    with pytest.raises(
        TargetError, match=r"is seq\(tensor\(float\)\), no tensor that can be sent; export the model with"
    ):
        described(path)


@pytest.mark.parametrize(("kind", "labels"), [("int64", [-1, 7]), ("string", ["no", "yes"])])
def test_the_maps_of_classifiers_are_served_as_tables(tmp_path: Path, kind: str, labels: list[Any]) -> None:
    import onnx
    from onnx import helper

    path = tmp_path / "m.onnx"
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2])
    key = onnx.TensorProto.INT64 if kind == "int64" else onnx.TensorProto.STRING
    value = helper.make_map_type_proto(key, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, []))
    output = helper.make_value_info("output", helper.make_sequence_type_proto(value))
    classes = {f"classlabels_{kind}s": labels[::-1]}
    node = models.node("ZipMap", ["x"], ["output"], domain="ai.onnx.ml", **classes)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(
        helper.make_model(helper.make_graph([node], "graph", [x], [output]), ir_version=8, opset_imports=opsets), path
    )
    found = described(path)
    assert found["outputs"] == [{"name": "output", "datatype": "FP32", "dims": [2]}]
    assert (found["batch_axis"], found["source"]["labels"]) == (True, {"output": labels})
    rows = np.array([[0.25, 0.75], [1, 0]], np.float32)
    np.testing.assert_array_equal(calls(path, rows)[0], rows[:, ::-1])  # the greater label stands first in the file
    assert calls(path, rows[:0])[0].shape == (0, 2)


def test_a_regressor_has_a_column_for_each_target_whatever_the_file_says(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    path = tmp_path / "m.onnx"
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N"])
    weights = {"coefficients": [1.0, 0.0, 0.0, 2.0, 1.0, 1.0], "intercepts": [0.0, 0.0, 1.0], "targets": 3}
    node = models.node("LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", **weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    graph = helper.make_graph([node], "graph", [x], [y])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), path)
    assert described(path)["outputs"] == [{"name": "y", "datatype": "FP32", "dims": [3]}]
    assert calls(path, np.array([[1, 1]], np.float32))[0].tolist() == [[1, 2, 3]]


def test_text_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = models.echo(tmp_path / "m.onnx", "STRING")
    with pytest.raises(InvalidInputError, match=r'^element 1 of input "x" is not UTF-8, as texts are: '):
        calls(path, np.array([[b"a", b"\xff"]], object))


def test_bfloat16_beside_text_is_refused(tmp_path: Path) -> None:
    nodes = [models.node("Cast", ["x"], ["output"], to=16)]
    path = models.write(tmp_path / "m.onnx", nodes, [("x", "STRING", ("N",))], [("output", "BFLOAT16", ("N",))])
    with pytest.raises(TargetError, match=r"^m.onnx has both bfloat16 and string tensors"):
        described(path)


def test_a_file_that_changed_since_is_not_loaded_in_its_place(tmp_path: Path) -> None:
    path = models.scale(tmp_path / "m.onnx")
    spec = {**described(path), "options": {"threads": 1, "concurrency": 1}}
    models.sums(path)
    with pytest.raises(
        LoadError, match=r"has other inputs or outputs than when it was inspected; load the model again$"
    ):
        load(spec)


def test_a_fixed_batch_of_one_is_hinted_at(tmp_path: Path) -> None:
    for shape, is_fixed in (((1, 3), True), (("batch", 3), False), ((2, 3), False), ((), False), (None, False)):
        note = described(models.echo(tmp_path / "m.onnx", shape=shape))["source"].get("note", "")
        assert (note.startswith("the file has a fixed batch of 1, so calls run one at a time; export it")) is is_fixed


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("labels", '["cat", "dog", "bird"]'),
        ("names", "{0: 'cat', 1: 'dog', 2: 'bird'}"),
        ("id2label", '{"0": "cat", "1": "dog", "2": "bird"}'),
        ("classes", "cat, dog, bird"),
        ("class_names", "cat\ndog\nbird\n"),
    ],
)
def test_labels_in_the_metadata_belong_to_the_output_with_as_many_places(tmp_path: Path, key: str, text: str) -> None:
    assert with_metadata(tmp_path, key, text)["source"]["labels"] == {"output": ["cat", "dog", "bird"]}


@pytest.mark.parametrize(
    ("key", "text"),
    [("labels", "cat,dog"), ("author", "a,b,c"), ("names", "{1: 'a', 2: 'b', 3: 'c'}"), ("labels", "[[1], [2], [3]]")],
)
def test_other_metadata_gives_no_labels(tmp_path: Path, key: str, text: str) -> None:
    assert "labels" not in with_metadata(tmp_path, key, text)["source"]


def with_metadata(folder: Path, key: str, text: str) -> dict[str, Any]:
    import onnx

    path = models.scale(folder / "m.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key: text})
    onnx.save(model, path)
    return described(path)


def test_a_file_has_one_model_and_runs_one_call(tmp_path: Path) -> None:
    path = models.scale(tmp_path / "m.onnx")
    with pytest.raises(TargetError, match=r"^m.onnx:Net names a class, but m.onnx is one model; name the file alone$"):
        inspect(Question(path, "Net"))
    with pytest.raises(
        ConfigError, match=r"^concurrency = 2 is set for m.onnx, which runs one call at a time; use inst"
    ):
        inspect(Question(path, declared=Declared({"concurrency": 2})))


def test_without_onnxruntime_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(TargetError, match=r"^ONNX models need onnxruntime, .*; run: pip install onnxruntime$"):
        described(models.scale(tmp_path / "m.onnx"))
