"""JAX: functions that jax.export serialised."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import export

from formats.compared import Arrays, answers, check_answers, check_damage, refusal
from samovar.config.declared import read_declared
from samovar.errors import ConfigError, InvalidInputError, TargetError
from samovar.runtimes import Question, Sure, describe
from samovar.runtimes.jax import load, recognise
from serving import Serve

FORMAT = "jax"
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(7, 4)).astype(np.float32)
WEIGHTS = CHANCE.normal(size=(4, 3)).astype(np.float32)
SYMBOLS = export.SymbolicScope()  # symbols of two arguments are one only within such


def written(path: Path, function: Callable[..., Any], *shapes: Any, **options: Any) -> Path:
    named = options.pop("named", {})
    path.write_bytes(export.export(jax.jit(function), **options)(*shapes, **named).serialize())
    return path


def rows(symbol: str = "b", width: int = 4, dtype: Any = jnp.float32, **options: Any) -> jax.ShapeDtypeStruct:
    options = options or {"scope": SYMBOLS}
    return jax.ShapeDtypeStruct(export.symbolic_shape(f"{symbol}, {width}", **options), dtype)


def scores(x: Any) -> Any:
    return jax.nn.softmax(x @ WEIGHTS)


def described(path: Path, **declared: Any) -> dict[str, Any]:
    (found,) = describe(Question(path, declared=read_declared(declared, "in samovar.toml")))
    return found


def model_of(path: Path, **declared: Any) -> Any:
    return load({**described(path, **declared), "options": {"threads": 1, "concurrency": 1}})


def test_arguments_and_result_have_their_keys_as_names(serve: Serve, tmp_path: Path) -> None:
    def function(arrays: dict[str, Any]) -> dict[str, Any]:
        return {"scores": scores(arrays["x"]) + arrays["bias"], "total": arrays["x"].sum(1)}

    path = written(tmp_path / "net.jaxexport", function, {"x": rows(), "bias": rows(width=3)})
    inputs = {"bias": X[:, 1:], "x": X}
    served = check_answers(serve, path, inputs, lambda arrays: _arrays(jax.jit(function)(dict(arrays))))
    assert served.http.get("/v2/models/net").json()["inputs"] == [
        {"name": "bias", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
    ]
    assert described(path)["source"]["read_from"] == "the exported function function"


def _arrays(found: dict[str, Any]) -> Arrays:
    return {name: np.asarray(array) for name, array in found.items()}


def test_others_are_numbered_or_declared(serve: Serve, tmp_path: Path) -> None:
    path = written(tmp_path / "pair.bin", lambda a, b: (a + b, a - b), rows(), rows())
    options = """inputs = [{ name = "one" }, { name = "two" }]\noutputs = [{ name = "sum" }, { name = "rest" }]"""
    check_answers(
        serve,
        path,
        {"one": X, "two": X + 1},
        lambda arrays: {"sum": arrays["one"] + arrays["two"], "rest": arrays["one"] - arrays["two"]},
        options=options,
    )
    found = described(path)
    assert [tensor["name"] for tensor in found["inputs"]] == ["input_0", "input_1"]
    assert [tensor["name"] for tensor in found["outputs"]] == ["output_0", "output_1"]
    narrowed = described(path, inputs=[{"name": "input_1", "datatype": "FP32"}, {"name": "input_0"}])
    assert narrowed["inputs"] == found["inputs"]
    with pytest.raises(TargetError, match=r'^input "one" is declared in samovar.toml, but pair.bin has none'):
        described(path, inputs=[{"name": "one"}])


def test_keys_of_nested_arguments_lead_to_their_arrays(tmp_path: Path) -> None:
    def function(a: Any, tree: Any, *, scale: Any) -> Any:
        return [a + tree["deep"]["x"], {"z": tree["list"][0] * scale}]

    tree = {"deep": {"x": rows()}, "list": [rows()]}
    path = written(tmp_path / "net.jaxexport", function, rows(), tree, named={"scale": rows()})
    found = described(path)
    assert [tensor["name"] for tensor in found["inputs"]] == ["input_0", "deep.x", "list.0", "scale"]
    assert [tensor["name"] for tensor in found["outputs"]] == ["output_0", "1.z"]
    first, second = model_of(path).predict([X, X, X, 2 * X])
    np.testing.assert_allclose(first, 2 * X)
    np.testing.assert_allclose(second, 2 * X * X)


def test_equal_keys_of_two_arguments_are_numbered(tmp_path: Path) -> None:
    path = written(tmp_path / "net.jaxexport", lambda a, b: a["x"] + b["x"], {"x": rows()}, {"x": rows()})
    assert [tensor["name"] for tensor in described(path)["inputs"]] == ["input_0", "input_1"]


def test_batches_are_filled_up_so_that_few_sizes_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "net.jaxexport", scores, rows())
    seen: list[int] = []
    call = export.Exported.call

    def counted(exported: Any, x: Any) -> Any:  # traced for each size that is compiled
        seen.append(len(x))
        return call(exported, x)

    monkeypatch.setattr(export.Exported, "call", counted)
    model = model_of(path)
    del seen[:]  # what the description traced
    for count in (*range(8), *range(8)):
        (found,) = model.predict([X[:count]])
        np.testing.assert_allclose(found, scores(X[:count]), rtol=1e-5)
    assert seen == [1, 2, 4, 8]


def test_xla_has_as_many_threads_as_the_model(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPROC", raising=False)  # of loads in this process
    path = written(tmp_path / "net.jaxexport", scores, rows())
    (tmp_path / "settings.toml").write_text("[models.net]\nthreads = 3\n")
    served = serve(str(path), options=["--config", str(tmp_path / "settings.toml")], timeout_s=120.0)
    assert served.http.infer("net", {"input_0": X}).arrays()["output_0"].shape == (7, 3)
    names = [task.read_text() for worker in served.workers() for task in Path(f"/proc/{worker}/task").glob("*/comm")]
    assert names.count("tf_XLAEigen\n") == 3


def test_a_bound_of_the_batch_is_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "net.jaxexport", scores, rows(constraints=["b <= 6"]))
    model = model_of(path)
    for count in (5, 3, 5, 6):
        assert model.predict([X[:count]])[0].shape == (count, 3)
    with pytest.raises(InvalidInputError, match=r"^the function does not take the shapes \[7, 4\]: .*; see the constr"):
        model.predict([X])


def test_a_fixed_batch_is_served_with_a_hint(tmp_path: Path) -> None:
    path = written(tmp_path / "fixed.jaxexport", scores, jax.ShapeDtypeStruct((1, 4), jnp.float32))
    found = described(path)
    assert (found["batch_axis"], found["inputs"][0]["dims"]) == (False, [1, 4])
    assert "jax.export.symbolic_shape" in found["source"]["note"]
    np.testing.assert_allclose(model_of(path).predict([X[:1]])[0], scores(X[:1]), rtol=1e-5)


@pytest.mark.parametrize(
    ("symbol", "batch_axis", "dims"), [("batch", True, [4]), ("n", True, [4]), ("time", False, [-1, 4])]
)
def test_the_symbol_says_whether_it_is_the_batch(
    tmp_path: Path, symbol: str, batch_axis: bool, dims: list[int]
) -> None:
    path = written(tmp_path / "net.jaxexport", scores, rows(symbol))
    found = described(path)
    assert (found["batch_axis"], found["inputs"][0]["dims"]) == (batch_axis, dims)
    np.testing.assert_allclose(model_of(path).predict([X])[0], scores(X), rtol=1e-5)


def centred(x: Any) -> Any:
    return x - x.mean(0)


def products(x: Any) -> Any:
    return x @ x.T


@pytest.mark.parametrize("function", [centred, products])
def test_rows_that_are_reckoned_together_are_no_batch(tmp_path: Path, function: Callable[..., Any]) -> None:
    path = written(tmp_path / "net.jaxexport", function, rows())
    assert described(path)["batch_axis"] is False
    np.testing.assert_allclose(answers(path, {"input_0": X})["output_0"], function(X), rtol=1e-5, atol=1e-6)


def test_axes_reckoned_from_symbols_are_any(tmp_path: Path) -> None:
    shape = jax.ShapeDtypeStruct(export.symbolic_shape("b, 2*s"), jnp.float32)
    found = described(written(tmp_path / "net.jaxexport", lambda x: x.reshape(x.shape[0], -1, 2), shape))
    assert (found["inputs"][0]["dims"], found["outputs"][0]["dims"]) == ([-1], [-1, 2])


@pytest.mark.parametrize("dtype", ["int64", "float64", "bfloat16", "float16", "uint8", "bool"])
def test_datatypes_are_read_and_run(tmp_path: Path, dtype: str) -> None:
    was = jax.config.jax_enable_x64
    try:
        jax.config.update("jax_enable_x64", True)
        path = written(tmp_path / "net.jaxexport", lambda x: jnp.concatenate([x, x], 1), rows(width=2, dtype=dtype))
        jax.config.update("jax_enable_x64", False)
        array = np.array([[0, 1], [1, 0], [1, 1]]).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        (found,) = model_of(path).predict([array])
    finally:
        jax.config.update("jax_enable_x64", was)
    assert (found.dtype, found.tolist()) == (array.dtype, np.concatenate([array, array], 1).tolist())


def test_what_cannot_be_sent_or_run_is_told(serve: Serve, tmp_path: Path) -> None:
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype)
    path = written(tmp_path / "key.jaxexport", lambda key: jax.random.normal(key, (2,)), key)
    with pytest.raises(TargetError, match=r'^input "input_0" of key.jaxexport is key<fry>, no tensor that can be sent'):
        described(path)
    path = written(tmp_path / "cuda.jaxexport", scores, rows(), platforms=["cuda"])
    assert "cuda.jaxexport was exported for cuda, not for the processor" in refusal(serve, path)
    with pytest.raises(ConfigError, match=r'^unknown runtime option "pad" of net.jaxexport; its runtime has none$'):
        described(written(tmp_path / "net.jaxexport", scores, rows()), runtime_options={"pad": True})


def test_content_is_recognised_whatever_the_name(tmp_path: Path) -> None:
    path = written(tmp_path / "net.anything", scores, rows())
    assert recognise(path) is Sure.CERTAIN
    raw = tmp_path / "raw.mlirbc"
    raw.write_bytes(b"ML\xefR\rStableHLO_v1.17.0" + bytes(99))
    assert recognise(raw) is Sure.NO


def test_a_damaged_program_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.jaxexport", scores, rows())
    content = bytearray(path.read_bytes())
    start = content.index(b"StableHLO_v") + 60
    content[start : start + 40] = b"\xee" * 40
    path.write_bytes(content)
    with pytest.raises(TargetError, match=r"^net.jaxexport is damaged: .*; fetch or export the file again$"):
        model_of(path)


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "net.jaxexport", scores, rows()).read_bytes()
    path = tmp_path / "cut.jaxexport"
    for length in range(0, len(whole) - 8, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(TargetError, match=r"^jax [\d.]+ cannot read cut.jaxexport: |cut.jaxexport is "):
            described(path)
    path.write_bytes(struct.pack("<I", 4) + whole[4:])
    with pytest.raises(TargetError):
        described(path)


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    check_damage(serve, written(tmp_path / "net.jaxexport", scores, rows()), "net.jaxexport", "export")
