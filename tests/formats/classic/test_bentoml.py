"""Entries of BentoML's model store, laid out as BentoML writes them."""

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from onnx import TensorProto, helper, save
from sklearn.linear_model import LogisticRegression

from formats.compared import Arrays, answers, check_answers, refusal, same
from samovar.errors import TargetError
from serving import Serve

FORMAT = "bentoml"
X = np.random.default_rng(0).normal(size=(8, 4))
Y = (X[:, 0] > 0).astype(int)
VERSION = "kq3mhsrx2wdxgl6n"
# What `bentoml.models.create` leaves, in the order and with the keys of ModelInfo.
DESCRIPTION = """\
name: {name}
version: {version}
module: {module}
labels:
  owner: test
options: {{}}
metadata: {{}}
context:
  framework_name: {framework}
  framework_versions:
    {framework}: 1.0.0
  bentoml_version: 1.4.39
  python_version: 3.11.7
signatures:
  predict:
    batchable: false
api_version: v1
creation_time: '2026-01-01T00:00:00.000000+00:00'
"""


def entry(store: Path, name: str, module: str) -> Path:
    """A version of a model, which is the latest."""
    folder = store / name / VERSION
    folder.mkdir(parents=True)
    framework = module.partition(".")[2] or "none"
    facts = {"name": name, "version": VERSION, "module": module or "''", "framework": framework}
    (folder / "model.yaml").write_text(DESCRIPTION.format(**facts))
    (store / name / "latest").write_text(VERSION)
    return folder


def doubling(path: Path) -> None:
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubling", tensors[:1], tensors[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.mark.parametrize("is_latest", [True, False], ids=["latest", "version"])
def test_the_file_of_an_entry_is_run_by_the_runtime_of_its_format(
    serve: Serve, tmp_path: Path, *, is_latest: bool
) -> None:
    folder = entry(tmp_path, "doubling", "bentoml.onnx")
    doubling(folder / "saved_model.onnx")
    (folder / "custom_objects.pkl").write_bytes(b"\x80\x04 is left alone")
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    target = folder.parent if is_latest else folder
    served = check_answers(serve, target, {"x": x}, lambda arrays: {"y": arrays["x"] * 2})
    assert served.model(target.name)["state"] == "ready"


def test_a_pickle_of_an_entry_wants_trust(serve: Serve, tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, Y)
    folder = entry(tmp_path, "iris", "bentoml.sklearn")
    joblib.dump(model, folder / "saved_model.pkl")
    told = refusal(serve, folder.parent)
    assert "unsafe_format: saved_model.pkl is a Python pickle" in told
    assert "--trust iris" in told

    def expected(arrays: Arrays) -> Arrays:
        return {"label": model.predict(arrays["x"]), "probabilities": model.predict_proba(arrays["x"])}

    served = check_answers(serve, folder.parent, {"x": X}, expected, arguments=["--trust", "iris"])
    assert "trusted" in served.output()


def test_the_file_that_somebody_put_into_an_entry(tmp_path: Path) -> None:
    folder = entry(tmp_path, "created", "")
    (folder / "onnx").mkdir()
    doubling(folder / "onnx" / "net.onnx")
    (folder / "readme.md").write_text("doubles")
    (folder / "train.py").write_text("raise SystemExit")
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    same(answers(folder.parent, {"x": x}), {"y": x * 2}, 1e-6)
    doubling(folder / "other.onnx")
    with pytest.raises(TargetError, match=r"has onnx/net.onnx and other.onnx; serve one of"):
        answers(folder.parent, {"x": x})


def test_an_mlflow_folder_in_an_entry_is_resolved_twice(serve: Serve, tmp_path: Path) -> None:
    folder = entry(tmp_path, "wrapped", "bentoml.mlflow")
    inside = folder / "mlflow_model"
    inside.mkdir()
    (inside / "MLmodel").write_text("flavors:\n  onnx:\n    data: model.onnx\n")
    doubling(inside / "model.onnx")
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    check_answers(serve, folder.parent, {"x": x}, lambda arrays: {"y": arrays["x"] * 2})


TREES = [("xgboost", "saved_model.ubj"), ("lightgbm", "saved_model.ubj"), ("catboost", "saved_model.cbm")]


@pytest.mark.parametrize(("framework", "name"), TREES, ids=[framework for framework, _ in TREES])
def test_trees_are_run_by_their_runtime(serve: Serve, tmp_path: Path, framework: str, name: str) -> None:
    folder = entry(tmp_path, framework, f"bentoml.{framework}")
    predict, dtype = trained(framework, folder / name)
    x = X.astype(dtype)
    check_answers(serve, folder.parent, {"x": x}, lambda arrays: {"prediction": predict(arrays["x"])})


def trained(framework: str, path: Path) -> tuple[Any, Any]:
    """A regressor saved at a path: how it predicts, and what its input is."""
    if framework == "xgboost":
        import xgboost

        booster = xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(X, label=X[:, 1]), 3)
        booster.save_model(path)
        return booster.inplace_predict, np.float32
    if framework == "lightgbm":
        import lightgbm

        settings = {"objective": "regression", "verbose": -1, "min_data_in_leaf": 1}
        booster = lightgbm.train(settings, lightgbm.Dataset(X, label=X[:, 1]), 3)
        booster.save_model(str(path))
        return booster.predict, np.float64
    import catboost

    model = catboost.CatBoostRegressor(iterations=3, allow_writing_files=False, verbose=0).fit(X, X[:, 1])
    model.save_model(str(path))
    return model.predict, np.float32


def test_damaged_entries_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    good = entry(tmp_path, "good", "bentoml.onnx")
    doubling(good / "saved_model.onnx")
    cut = entry(tmp_path, "cut", "bentoml.onnx")
    (cut / "saved_model.onnx").write_bytes((good / "saved_model.onnx").read_bytes()[:40])
    flax = entry(tmp_path, "flax", "bentoml.flax")
    (flax / "saved_model.msgpack").write_bytes(b"\xc0" * 64)
    served = serve(*(str(folder.parent) for folder in (good, cut, flax)), timeout_s=120.0)
    assert served.http.get("/v2/models/good/ready").status == 200
    told = {Path(line["target"]).name: json.dumps(line) for line in served.errors(2)}
    assert "saved_model.onnx is cut off" in told["cut"]
    assert "bentoml.flax" in told["flax"]


def test_what_is_no_entry_is_none(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.yaml").write_text("name: other\nmodule: json\n")
    assert "no models" in refusal(serve, tmp_path / "other") or "other" in refusal(serve, tmp_path / "other")
