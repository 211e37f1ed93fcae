"""MLflow model folders: the flavour's file by its own runtime, Python code where it is trusted."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import skops.io
from onnx import TensorProto, helper, save
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from formats.compared import Arrays, answers, check_answers, refusal, same
from samovar.config.declared import Declared
from samovar.errors import ConfigError
from serving import Serve

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "1"
with warnings.catch_warnings():  # it warns of its own classes
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    import mlflow.sklearn

FORMAT = "mlflow"
pytestmark = pytest.mark.filterwarnings("ignore")
X = np.random.default_rng(0).normal(size=(8, 4))
Y = (X[:, 0] > 0).astype(int)
NO_PACKAGES = {"pip_requirements": ["numpy"]}  # else mlflow asks pip in a process of its own


def signed(inputs: Any, outputs: Any) -> Any:
    return mlflow.models.infer_signature(inputs, outputs)


def test_a_flavour_is_run_by_the_runtime_of_its_file(serve: Serve, tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, Y)
    folder = tmp_path / "linear"
    mlflow.sklearn.save_model(
        model, folder, serialization_format="skops", signature=signed(X, model.predict(X)), **NO_PACKAGES
    )

    def expected(arrays: Arrays) -> Arrays:
        return {"label": model.predict(arrays["x"]), "probabilities": model.predict_proba(arrays["x"])}

    served = check_answers(serve, folder, {"x": X}, expected)
    pyfunc = mlflow.pyfunc.load_model(str(folder)).predict(X)
    np.testing.assert_array_equal(served.http.infer("linear", {"x": X}).arrays()["label"], pyfunc)
    assert served.model("linear")["state"] == "ready"


def test_a_pickle_in_a_package_wants_trust_in_the_name_of_the_package(serve: Serve, tmp_path: Path) -> None:
    model = LinearRegression().fit(X, Y)
    folder = tmp_path / "pickled"
    mlflow.sklearn.save_model(model, folder, serialization_format="pickle", **NO_PACKAGES)
    told = refusal(serve, folder)
    assert "unsafe_format: model.pkl is a Python pickle" in told
    assert "--trust pickled" in told
    check_answers(
        serve,
        folder,
        {"x": X},
        lambda arrays: {"prediction": model.predict(arrays["x"])},
        arguments=["--trust", "pickled"],
    )


def doubling(path: Path) -> None:
    """An ONNX graph that doubles, whose file says nothing of shapes."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubling", tensors[:1], tensors[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def written(folder: Path, flavors: dict[str, Any], **content: Any) -> Path:
    """A package as mlflow writes it: JSON is YAML."""
    folder.mkdir()
    lines = [f"{key}: {json.dumps(value)}" for key, value in {"flavors": flavors, **content}.items()]
    (folder / "MLmodel").write_text("\n".join(lines))
    return folder


def tensors(shape: list[int]) -> str:
    return json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": shape}}])


def test_the_signature_of_the_package_completes_what_the_file_does_not_say(serve: Serve, tmp_path: Path) -> None:
    signature = {"inputs": tensors([-1, 3]), "outputs": tensors([-1, 3])}
    folder = written(tmp_path / "doubling", {"onnx": {"data": "model.onnx"}}, signature=signature)
    doubling(folder / "model.onnx")
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    served = check_answers(serve, folder, {"x": x}, lambda arrays: {"y": arrays["x"] * 2})
    described = served.http.get("/v2/models/doubling").json()
    assert described["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert described["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]


class Scaled(mlflow.pyfunc.PythonModel):
    """Columns in, columns out; a text chooses the factor."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        factors = model_input["unit"].map({"m": 1.0, "km": 1000.0})
        return pd.DataFrame({"length": model_input["length"] * factors, "unit": ["m"] * len(model_input)})


class Summing(mlflow.pyfunc.PythonModel):
    """An array in, an array out."""

    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> np.ndarray:
        return model_input.sum(axis=1)


def test_python_code_is_run_where_it_is_trusted(serve: Serve, tmp_path: Path) -> None:
    frame = pd.DataFrame({"length": X[:, 0], "unit": ["m", "km"] * 4})
    folder = tmp_path / "scaled"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    mlflow.pyfunc.save_model(
        folder, python_model=Scaled(), signature=signed(frame, Scaled().predict(None, frame)), **NO_PACKAGES
    )
    told = refusal(serve, folder)
    assert "unsafe_format" in told
    assert "mlflow.pyfunc.model" in told
    inputs = {"length": X[:, 0], "unit": np.array([b"m", b"km"] * 4, object)}

    def expected(arrays: Arrays) -> Arrays:
        texts = [unit.decode() for unit in arrays["unit"]]
        asked = pd.DataFrame({"length": arrays["length"], "unit": texts})
        found = mlflow.pyfunc.load_model(str(folder)).predict(asked)
        return {"length": found["length"].to_numpy(), "unit": found["unit"].to_numpy(object)}

    served = check_answers(serve, folder, inputs, expected, arguments=["--trust", "scaled"])
    assert "trusted" in served.output()


def test_python_code_that_takes_an_array_gets_one(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "summing"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    mlflow.pyfunc.save_model(folder, python_model=Summing(), signature=signed(X, X.sum(axis=1)), **NO_PACKAGES)
    check_answers(
        serve,
        folder,
        {"x": X},
        lambda arrays: {"prediction": arrays["x"].sum(axis=1)},
        arguments=["--trust", "summing"],
    )


class Dated(mlflow.pyfunc.PythonModel):
    """A datetime and a vector in, a number out."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> np.ndarray:
        return model_input["day"].dt.year.to_numpy() + np.array([sum(vector) for vector in model_input["vector"]])


def test_datetimes_travel_as_texts_and_vectors_as_a_further_axis(serve: Serve, tmp_path: Path) -> None:
    days = ["2024-02-29", "2025-01-31T12:00:00"] * 4
    frame = pd.DataFrame({"day": pd.to_datetime(days, format="ISO8601"), "vector": [[1.0, 2.0]] * 8})
    folder = tmp_path / "dated"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    mlflow.pyfunc.save_model(
        folder, python_model=Dated(), signature=signed(frame, Dated().predict(None, frame)), **NO_PACKAGES
    )
    inputs = {"day": np.array([day.encode() for day in days], object), "vector": np.tile([1.0, 2.0], (8, 1))}
    wanted = Dated().predict(None, frame)
    served = check_answers(
        serve,
        folder,
        inputs,
        lambda arrays: {"prediction": wanted[: len(arrays["day"])]},
        arguments=["--trust", "dated"],
    )
    told = served.http.infer("dated", {**inputs, "day": np.array([b"yesterday"] * 8, object)})
    assert told.status == 400
    assert 'input "day" has no datetimes' in told.json()["error"]


def test_the_columns_of_an_estimator_have_the_datatypes_of_the_signature(tmp_path: Path) -> None:
    frame = pd.DataFrame({"unit": ["m", "km"] * 4, "count": np.arange(8), "paid": Y == 1})
    encoded = ColumnTransformer([("text", OneHotEncoder(), ["unit", "paid"])], remainder="passthrough")
    model = make_pipeline(encoded, LinearRegression()).fit(frame, X[:, 0])
    signature = signed(frame, model.predict(frame))
    mlflow.sklearn.save_model(
        model, tmp_path / "typed", serialization_format="skops", signature=signature, **NO_PACKAGES
    )
    inputs = {"unit": np.array([b"m", b"km"] * 4, object), "count": np.arange(8), "paid": Y == 1}
    same(answers(tmp_path / "typed", inputs), {"prediction": model.predict(frame)}, 1e-9)


def test_unknown_options_of_python_code_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "summing"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    mlflow.pyfunc.save_model(folder, python_model=Summing(), signature=signed(X, X.sum(axis=1)), **NO_PACKAGES)
    with pytest.raises(ConfigError, match='unknown runtime option "depth"'):
        answers(folder, {"x": X}, Declared(runtime_options={"depth": 2}, trust=True))


def test_a_flavour_of_trees_is_run_by_its_runtime(serve: Serve, tmp_path: Path) -> None:
    import xgboost

    booster = xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(X, label=X[:, 1]), 3)
    mlflow.xgboost.save_model(booster, tmp_path / "trees", **NO_PACKAGES)
    x = X.astype(np.float32)

    def expected(arrays: Arrays) -> Arrays:
        return {"prediction": booster.predict(xgboost.DMatrix(arrays["x"]))}

    check_answers(serve, tmp_path / "trees", {"x": x}, expected)


def test_damaged_packages_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    skops.io.dump(LinearRegression().fit(X, Y), tmp_path / "good.skops")
    flavor = {"sklearn": {"pickled_model": "model.skops"}}
    content = (tmp_path / "good.skops").read_bytes()
    cut = written(tmp_path / "cut", flavor)
    (cut / "model.skops").write_bytes(content[: len(content) // 2])
    outside = written(tmp_path / "outside", {"sklearn": {"pickled_model": "../good.skops"}})
    itself = written(tmp_path / "itself", {"sklearn": {"pickled_model": "."}})
    absent = written(tmp_path / "absent", {"sklearn": {"pickled_model": "model.pkl"}, "python_function": {}})
    void = written(tmp_path / "void", {})
    (void / "MLmodel").write_text("")
    empty = written(tmp_path / "empty", {"prophet": {"data": "model.pr"}})
    (empty / "model.pr").touch()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "MLmodel").write_text("flavors: [1, 2\nx: 'y\n")
    tagged = tmp_path / "tagged"
    tagged.mkdir()
    harm = f"flavors: {{}}\nx: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'run'}]\n"
    (tagged / "MLmodel").write_text(harm)
    served = serve(
        *map(str, (cut, outside, itself, absent, void, empty, broken, tagged)),
        str(tmp_path / "good.skops"),
        timeout_s=120.0,
    )
    assert served.http.get("/v2/models/good/ready").status == 200
    told = {Path(line["target"]).name: json.dumps(line) for line in served.errors(8)}
    assert "model.skops" in told["cut"]
    assert "sklearn" in told["outside"]
    assert "none with a file" in told["itself"]
    assert "names model.pkl as the model of its flavour sklearn, which is not there" in told["absent"]
    assert "has no flavors" in told["void"]
    assert "prophet" in told["empty"]
    assert "cannot be read" in told["broken"]
    assert "cannot be read" in told["tagged"]
    assert not (tmp_path / "run").exists()
