"""Keras: archives and older HDF5 files, on TensorFlow and on JAX alike; each environment has its own backend."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from formats.compared import Arrays, check_answers, check_damage, same
from serving import Serve

X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
WIDE = np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32)


def sequential() -> Any:
    layers = [
        keras.layers.Input((4,), name="features"),
        keras.layers.Dense(5, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(3, activation="softmax", name="species"),
    ]
    return keras.Sequential(layers)


def single() -> Any:
    inputs = keras.Input((4,), name="features", batch_size=1)
    return keras.Model(inputs, keras.layers.Dense(2, name="scores")(inputs))


def fitted() -> Any:
    """A model whose first axis is as long as the batches that it was trained with."""
    model = keras.Sequential([keras.layers.Dense(2, name="scores")])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :2], batch_size=4, verbose=0)
    return model


def test_the_batch_size_of_the_training_is_not_that_of_requests(serve: Serve, tmp_path: Path) -> None:
    model = fitted()
    model.save(tmp_path / "trained.keras")
    served = serve(str(tmp_path / "trained.keras"), timeout_s=120.0)
    (found,) = served.http.get("/v2/models/trained").json()["inputs"]
    assert found["shape"] == [-1, 4]
    for rows in (1, 3, 8):
        answer = served.http.infer("trained", {found["name"]: X[:rows]}).arrays()
        same(answer, direct(model, ("scores",), {model.inputs[0].name: X[:rows]}), 1e-5)


def stateful() -> Any:
    inputs = keras.Input((2, 2), name="features", batch_size=1)
    return keras.Model(inputs, keras.layers.LSTM(2, stateful=True, name="scores")(inputs))


def two_inputs(*, named: bool) -> Any:
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    first, second = keras.layers.Dense(2, name="first")(joined), keras.layers.Dense(3, name="second")(joined)
    outputs = {"one": first, "two": second} if named else [first, second]
    return keras.Model({"left": left, "right": right} if named else [left, right], outputs)


def direct(model: Any, names: tuple[str, ...], arrays: Arrays) -> Arrays:
    packed = keras.tree.pack_sequence_as(
        model.input if len(arrays) > 1 else model.inputs[0], [arrays[tensor.name] for tensor in model.inputs]
    )
    found = keras.tree.flatten(model(packed, training=False))
    return {name: keras.ops.convert_to_numpy(tensor) for name, tensor in zip(names, found, strict=True)}


def test_a_sequential_model_answers_as_it_does_itself(serve: Serve, tmp_path: Path) -> None:
    model = sequential()
    model.save(tmp_path / "iris.keras")
    inputs = {"features": X}
    served = check_answers(serve, tmp_path / "iris.keras", inputs, lambda arrays: direct(model, ("species",), arrays))
    found = served.http.get("/v2/models/iris").json()
    assert found["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}]
    assert found["outputs"] == [{"name": "species", "datatype": "FP32", "shape": [-1, 3]}]


def test_older_files_and_several_inputs_and_outputs_have_their_names(serve: Serve, tmp_path: Path) -> None:
    both = {"left": X, "right": WIDE}
    models = {
        "older.h5": (sequential(), {"features": X}, ("species",)),
        "keys.keras": (two_inputs(named=True), both, ("one", "two")),
        "layers.keras": (two_inputs(named=False), both, ("first", "second")),
        "single.keras": (single(), {"features": X[:1]}, ("scores",)),
    }
    for file, (model, _, _) in models.items():
        model.save(tmp_path / file)
    served = serve(*(str(tmp_path / file) for file in models), timeout_s=120.0)
    for file, (model, inputs, names) in models.items():
        wanted = direct(model, names, inputs)
        same(served.http.infer(file.partition(".")[0], inputs).arrays(), wanted, 1e-5)
    assert served.http.get("/v2/models/single").json()["inputs"] == [
        {"name": "features", "datatype": "FP32", "shape": [-1, 4]}
    ]


def test_what_a_layer_remembers_is_of_one_call(serve: Serve, tmp_path: Path) -> None:
    model = stateful()
    model.save(tmp_path / "memory.keras")
    sequence = X[:1].reshape(1, 2, 2)
    wanted = direct(model, ("scores",), {"features": sequence})
    served = serve(str(tmp_path / "memory.keras"), timeout_s=120.0)
    for _ in range(2):
        same(served.http.infer("memory", {"features": sequence}).arrays(), wanted, 1e-5)


def harmful(path: Path) -> Any:
    """A model with a lambda that leaves a file."""
    code = f"lambda x: (__import__('pathlib').Path({str(path)!r}).touch(), x * 2.0)[1]"
    layers = [keras.layers.Input((4,), name="x"), keras.layers.Lambda(eval(code), name="twice")]
    return keras.Sequential(layers)


def test_a_lambda_does_not_run(serve: Serve, tmp_path: Path) -> None:
    model = harmful(tmp_path / "run")
    files = [tmp_path / "new.keras", tmp_path / "old.h5"]
    for file in files:
        model.save(file)
    (tmp_path / "run").unlink()
    served = serve(*map(str, files), "echo.py:EchoFp32", timeout_s=120.0)
    told = [json.dumps(line) for line in served.errors(len(files))]
    for file in files:
        words = ("unsafe_format", f"{file.name} holds a Python lambda", f"--trust {file.stem}")
        assert any(all(word in line for word in words) for line in told), told
    assert not (tmp_path / "run").exists()


def test_a_trusted_lambda_runs(serve: Serve, tmp_path: Path) -> None:
    harmful(tmp_path / "run").save(tmp_path / "harm.keras")
    (tmp_path / "run").unlink()
    (tmp_path / "settings.toml").write_text("[models.harm]\ntrust = true\n")
    options = ["--config", str(tmp_path / "settings.toml")]
    served = serve(str(tmp_path / "harm.keras"), options=options, timeout_s=120.0)
    same(served.http.infer("harm", {"x": X}).arrays(), {"twice": X * 2}, 1e-5)
    assert "trusted" in served.output()
    assert (tmp_path / "run").exists()


@keras.saving.register_keras_serializable("mine")
class Tripled(keras.layers.Layer):
    """A layer that no other program has."""

    def call(self, x: Any) -> Any:
        return x * 3


def test_what_cannot_be_loaded_says_how_to_save_it(serve: Serve, tmp_path: Path) -> None:
    own = keras.Sequential([keras.layers.Input((4,)), Tripled()])
    own.save(tmp_path / "new.keras")
    own.save(tmp_path / "old.h5")
    sequential().save_weights(tmp_path / "some.weights.h5")
    sequential().save(tmp_path / "cut.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "cut.h5").read_bytes()[:5_000])
    files = ("new.keras", "old.h5", "some.weights.h5", "cut.h5")
    served = serve(*(str(tmp_path / file) for file in files), "echo.py:EchoFp32", timeout_s=120.0)
    assert served.http.get("/v2/models/echo_fp32/ready").status == 200
    told = [json.dumps(line) for line in served.errors(len(files))]
    for words in (
        ("new.keras uses Tripled, which is no part of Keras", "model.export"),
        ("old.h5 uses mine>Tripled, which is no part of Keras", "model.export"),
        ("some.weights.h5 holds weights alone", "model.save"),
        ("cannot load cut.h5", "save the model again"),
    ):
        assert any(all(word in line for word in words) for line in told), (words, told)


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    sequential().save(tmp_path / "damaged.keras")
    check_damage(serve, tmp_path / "damaged.keras", "damaged.keras")
