"""OpenVINO: IR of two files, and ONNX that it runs."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

import models
from formats.compared import Arrays, check_answers, check_damage, refusal
from samovar.config.declared import read_declared
from samovar.errors import ConfigError, LoadError, TargetError
from samovar.runtimes import Question, describe
from samovar.runtimes.openvino import load
from serving import Serve

FORMAT = "openvino"
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(8, 4)).astype(np.float32)
WEIGHTS = CHANCE.normal(size=(4, 3)).astype(np.float32)
OPENVINO = 'runtime = "openvino"\n'


def classifier(first: int = -1) -> ov.Model:
    """`y` is a product with weights, `top` its largest places."""
    x = ops.parameter([first, 4], ov.Type.f32, name="x")
    x.output(0).set_names({"x"})
    y = ops.softmax(ops.matmul(x, ops.constant(WEIGHTS), False, False), 1)
    y.output(0).set_names({"y"})
    top = ops.topk(y, ops.constant(np.int64(1)), 1, "max", "value", "i64")
    top.output(1).set_names({"top"})
    return ov.Model([ops.result(y), ops.result(top.output(1))], [x], "net")


def saved(path: Path, model: ov.Model) -> Path:
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def one_input(output: Any, x: Any) -> ov.Model:
    x.output(0).set_names({"x"})
    output.output(0).set_names({"output"})
    return ov.Model([ops.result(output)], [x], "net")


def described(path: Path, **declared: Any) -> dict[str, Any]:
    (found,) = describe(Question(path, declared=read_declared(declared, "in samovar.toml")))
    return found


def answers(path: Path, **properties: Any) -> Any:
    compiled = ov.Core().compile_model(path, "CPU", properties)

    def expected(arrays: Arrays) -> Arrays:
        found = compiled(dict(arrays))
        return {port.any_name: found[port] for port in compiled.outputs}

    return expected


def calls(path: Path, *inputs: Any, threads: int = 1, **declared: Any) -> list[Any]:
    description = described(path, **declared)
    model = load({**description, "options": {"threads": threads, "concurrency": 1}})
    return list(model.predict(list(inputs)))


def test_an_ir_answers_as_it_does_itself(serve: Serve, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.xml", classifier())
    served = check_answers(serve, path, {"x": X}, answers(path))
    found = served.http.get("/v2/models/net").json()
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert found["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "top", "datatype": "INT64", "shape": [-1, 1]},
    ]


def test_a_batch_is_spread_over_the_streams(serve: Serve, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.xml", classifier())
    table = '[models.net.runtime_options]\nstreams = 2\ninference_precision = "f32"\n'
    options = f"threads = 2\n{table}"
    check_answers(serve, path, {"x": X}, answers(path, INFERENCE_PRECISION_HINT="f32"), options=options)
    for hint in ("latency", "throughput"):
        y, top = calls(path, X, threads=2, runtime_options={"performance_hint": hint, "inference_precision": "f32"})
        np.testing.assert_allclose(y.sum(1), 1, rtol=1e-5)
        assert top.shape == (8, 1)


def test_an_onnx_file_is_run_by_openvino_where_that_is_said(serve: Serve, tmp_path: Path) -> None:
    path = models.sums(tmp_path / "sums.onnx")
    inputs = {"a": X[:, :3], "b": X[:, 1:]}
    served = check_answers(serve, path, inputs, answers(path), options=OPENVINO)
    assert served.http.get("/v2/models/sums").json()["inputs"][0]["shape"] == [-1, 3]
    assert described(path, runtime="openvino")["runtime"] == "openvino"
    models.echo(tmp_path / "text.onnx", "STRING")
    with pytest.raises(TargetError, match=r'^"x" of text.onnx is text, which OpenVINO does not take'):
        described(tmp_path / "text.onnx", runtime="openvino")
    time = described(models.echo(tmp_path / "time.onnx", shape=("time", 3)), runtime="openvino")
    assert (time["batch_axis"], time["inputs"][0]["dims"]) == (False, [-1, 3])


def test_a_fixed_batch_is_served_with_a_hint(serve: Serve, tmp_path: Path) -> None:
    path = saved(tmp_path / "fixed.xml", classifier(first=1))
    served = check_answers(serve, path, {"x": X[:1]}, answers(path), has_batches=False)
    assert served.http.get("/v2/models/fixed").json()["inputs"][0]["shape"] == [1, 4]
    assert "dynamic first axis" in described(path)["source"]["note"]


def test_only_an_axis_that_outputs_follow_is_the_batch(tmp_path: Path) -> None:
    x = ops.parameter([-1, -1], ov.Type.f32, name="x")
    gram = saved(tmp_path / "gram.xml", one_input(ops.matmul(x, x, False, True), x))
    assert not described(gram)["batch_axis"]
    x = ops.parameter([-1, 3], ov.Type.f32, name="x")
    total = saved(tmp_path / "total.xml", one_input(ops.reduce_sum(x, ops.constant(np.int64(0)), True), x))
    assert not described(total)["batch_axis"]
    x = ops.parameter([-1, -1, 3], ov.Type.f32, name="x")
    found = described(saved(tmp_path / "time.xml", one_input(ops.relu(x), x)))
    assert (found["batch_axis"], found["inputs"][0]["dims"]) == (True, [-1, 3])
    assert described(tmp_path / "time.xml", batch_axis=False)["inputs"][0]["dims"] == [-1, -1, 3]


def test_rows_that_are_reckoned_together_are_no_batch(tmp_path: Path) -> None:
    x = ops.parameter([-1, 3], ov.Type.f32, name="x")
    mean = ops.reduce_mean(x, ops.constant(np.int64(0)), True)
    assert not described(saved(tmp_path / "centred.xml", one_input(ops.subtract(x, mean), x)))["batch_axis"]
    x = ops.parameter([-1, 3], ov.Type.f32, name="x")
    mean = ops.reduce_mean(x, ops.constant(np.int64(1)), True)
    assert described(saved(tmp_path / "rows.xml", one_input(ops.subtract(x, mean), x)))["batch_axis"]


def test_a_scalar_beside_rows_is_taken(tmp_path: Path) -> None:
    x, factor = ops.parameter([-1, 3], ov.Type.f32, name="x"), ops.parameter([], ov.Type.f32, name="factor")
    model = ov.Model([ops.multiply(x, factor)], [x, factor], "net")
    for port, name in zip(model.inputs, ("x", "factor"), strict=True):
        port.set_names({name})
    scalar = np.array(2, np.float32)
    scalar.flags.writeable = False
    (found,) = calls(saved(tmp_path / "net.xml", model), X[:, :3], scalar)
    np.testing.assert_allclose(found, X[:, :3] * 2, rtol=1e-2)


def test_a_bound_of_the_batch_is_kept(serve: Serve, tmp_path: Path) -> None:
    x = ops.parameter(ov.PartialShape([ov.Dimension(1, 5), 4]), ov.Type.f32, name="x")
    path = saved(tmp_path / "net.xml", one_input(ops.relu(x), x))
    assert described(path)["options"] == {"max_batch_size": 5}
    assert described(path, max_batch_size=3)["options"] == {"max_batch_size": 3}
    assert described(path, batch_axis=False)["options"] == {}
    check_answers(serve, path, {"x": X[:5]}, answers(path))


@pytest.mark.parametrize(
    ("element", "dtype"),
    [("f64", "float64"), ("f16", "float16"), ("i64", "int64"), ("u8", "uint8"), ("boolean", "bool"), ("bf16", "")],
)
def test_datatypes_are_read_and_run(tmp_path: Path, element: str, dtype: str) -> None:
    x = ops.parameter([-1, 2], getattr(ov.Type, element), name="x")
    path = saved(tmp_path / "twice.xml", one_input(ops.concat([x, x], 1), x))
    array = np.array([[0, 1], [1, 1], [1, 0]]).astype(dtype or ml_dtypes.bfloat16)
    array.flags.writeable = False
    (found,) = calls(path, array)
    assert found.dtype == array.dtype
    assert found.tolist() == np.concatenate([array, array], 1).tolist()


def test_an_answer_outlives_the_next_call(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.xml", classifier())
    model = load({**described(path), "options": {"threads": 1, "concurrency": 1}})
    (first, _), (second, _) = model.predict([X]), model.predict([-X])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, model.predict([X])[0])


def test_labels_of_the_model_api_are_read(tmp_path: Path) -> None:
    model = classifier()
    model.set_rt_info("cat dog bird", ["model_info", "labels"])
    assert described(saved(tmp_path / "net.xml", model))["source"]["labels"] == {"y": ["cat", "dog", "bird"]}


def test_runtime_options_are_checked(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.xml", classifier())
    for options, fault in (
        ({"hint": "latency"}, 'unknown runtime option "hint" of net.xml; its runtime has performance_hint, streams'),
        ({"streams": -1}, 'runtime option "streams" of net.xml is -1; it wants 0 or more'),
        ({"inference_precision": "i8"}, "is 'i8'; it wants one of default, f32, bf16, f16"),
    ):
        with pytest.raises(ConfigError, match=fault):
            described(path, runtime_options=options)


def test_threads_and_options_reach_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    compile_model = ov.Core.compile_model

    def kept(*arguments: Any) -> Any:
        compiled.append(compile_model(*arguments))
        return compiled[-1]

    monkeypatch.setattr(ov.Core, "compile_model", kept)
    path = saved(tmp_path / "net.xml", classifier())
    calls(path, X, threads=1)
    calls(path, X, threads=2, runtime_options={"streams": 2, "inference_precision": "f32"})
    calls(path, X, threads=2, runtime_options={"performance_hint": "throughput"})
    names = "INFERENCE_NUM_THREADS", "PERFORMANCE_HINT", "ENABLE_CPU_PINNING"
    assert [[str(one.get_property(name)) for name in names] for one in compiled] == [
        ["1", "LATENCY", "False"],
        ["2", "LATENCY", "False"],
        ["2", "THROUGHPUT", "False"],
    ]
    assert [one.get_property("NUM_STREAMS") for one in compiled[:2]] == [1, 2]
    assert compiled[1].get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32


def test_what_openvino_says_of_a_call_is_told_without_its_source(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.xml", classifier())
    for options in ({}, {"streams": 2}):
        with pytest.raises(RuntimeError, match=r"^Can't set the input tensor with index: 0, .* are incompatible$"):
            calls(path, X[:, :3], threads=2, runtime_options=options)


def test_files_that_do_not_belong_together_are_told(serve: Serve, tmp_path: Path) -> None:
    path = saved(tmp_path / "net.xml", classifier())
    weights = path.with_suffix(".bin")
    content = weights.read_bytes()
    weights.write_bytes(content[:10])
    assert "net.bin is cut off, or belongs to another model than net.xml" in refusal(serve, path)
    weights.unlink()
    with pytest.raises(TargetError, match=r"net.bin, which does not exist; put that file there"):
        described(path)
    weights.write_bytes(content)
    description = described(path)
    saved(path, one_input(ops.relu(x := ops.parameter([-1, 4], ov.Type.f32, name="x")), x))
    with pytest.raises(LoadError, match=r"^OpenVINO finds x in net.xml, not|^OpenVINO finds output in net.xml, not"):
        load({**description, "options": {"threads": 1, "concurrency": 1}})


def test_other_xml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tree.xml").write_text('<?xml version="1.0"?>\n<PMML version="4.4"></PMML>\n')
    with pytest.raises(TargetError, match=r"^tree.xml is a text that begins with .*, no OpenVINO IR"):
        described(tmp_path / "tree.xml")


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    check_damage(serve, saved(tmp_path / "net.xml", classifier()), "net.xml")
