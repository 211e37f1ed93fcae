"""XGBoost: JSON and UBJSON, each kind of objective, categories, and a training that stopped early."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost

from formats.compared import Arrays, answers, check_answers, check_damage, same
from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError
from samovar.runtimes import Question, describe
from serving import Serve

FORMAT = "xgboost"
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
THREE = CHANCE.integers(0, 3, 60)
CITIES = np.array(["rome", "oslo", "bonn"])[THREE]
BEFORE_JSON = bytes(136) + b"\x0f\0\0\0\0\0\0\0binary:logistic\x06\0\0\0\0\0\0\0gbtree"
SMALL: dict[str, Any] = {"n_estimators": 4, "max_depth": 2, "n_jobs": 1}


def classified(model: Any, rows: Any) -> Arrays:
    return {"label": model.predict(rows).astype(np.int64), "probabilities": model.predict_proba(rows)}


def test_a_classifier_answers_as_it_does_itself(serve: Serve, tmp_path: Path) -> None:
    model = xgboost.XGBClassifier(**SMALL).fit(X, Y)
    model.save_model(tmp_path / "two.json")
    served = check_answers(serve, tmp_path / "two.json", {"x": X[:8]}, lambda arrays: classified(model, arrays["x"]))
    assert served.http.get("/v2/models/two").json()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
def test_three_classes_have_a_probability_each(tmp_path: Path, objective: str) -> None:
    model = xgboost.XGBClassifier(**SMALL, objective=objective).fit(X, THREE)
    model.save_model(tmp_path / "three.ubj")
    same(answers(tmp_path / "three.ubj", {"x": X[:8]}), classified(model, X[:8]), 1e-6)


def test_labels_of_which_any_may_be_right(tmp_path: Path) -> None:
    model = xgboost.XGBClassifier(**SMALL).fit(X, (X[:, :2] > 0).astype(int))
    model.save_model(tmp_path / "many.ubj")
    same(answers(tmp_path / "many.ubj", {"x": X[:8]}), classified(model, X[:8]), 1e-6)


@pytest.mark.parametrize("booster", ["gbtree", "dart", "gblinear"])
def test_a_regressor_of_named_columns(tmp_path: Path, booster: str) -> None:
    table = pd.DataFrame(X, columns=["a", "b", "c d", "e"])
    model = xgboost.train({"booster": booster}, xgboost.DMatrix(table, X[:, 1]), 4)
    model.save_model(tmp_path / "one.ubj")
    holed = X[:8].copy()
    holed[1, 2] = np.nan  # a missing value
    wanted = model.predict(xgboost.DMatrix(pd.DataFrame(holed, columns=table.columns)))
    same(answers(tmp_path / "one.ubj", {"x": holed}), {"prediction": wanted}, 1e-6)


@pytest.mark.parametrize(
    ("parameters", "targets"),
    [
        ({"objective": "reg:squarederror"}, X[:, :2]),
        ({"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}, X[:, 0]),
        ({"objective": "rank:pairwise"}, THREE),
        ({"objective": "count:poisson"}, THREE),
    ],
    ids=["targets", "quantiles", "ranks", "counts"],
)
def test_numbers_of_each_kind(tmp_path: Path, parameters: dict[str, Any], targets: np.ndarray) -> None:
    groups = {"group": [30, 30]} if "rank" in parameters["objective"] else {}
    model = xgboost.train(parameters, xgboost.DMatrix(X, targets, **groups), 4)
    model.save_model(tmp_path / "numbers.json")
    wanted = model.predict(xgboost.DMatrix(X[:8]))
    same(answers(tmp_path / "numbers.json", {"x": X[:8]}), {"prediction": wanted}, 1e-6)


def test_columns_of_categories_are_inputs_of_their_own(serve: Serve, tmp_path: Path) -> None:
    table = pd.DataFrame({"age": X[:, 0], "city": pd.Categorical(CITIES), "code": pd.Categorical(THREE + 5)})
    model = xgboost.XGBClassifier(**SMALL, enable_categorical=True).fit(table, (X[:, 1] + THREE > 1).astype(int))
    model.save_model(tmp_path / "columns.ubj")
    texts = np.array([city.encode() for city in CITIES[:8]], object)
    inputs = {"age": X[:8, 0], "city": texts, "code": (THREE + 5)[:8].astype(np.int64)}

    def expected(arrays: Arrays) -> Arrays:
        count = len(arrays["age"])
        return classified(model, table[:count])

    served = check_answers(serve, tmp_path / "columns.ubj", inputs, expected)
    assert describe(Question(tmp_path / "columns.ubj"))[0]["source"]["examples"] == {"city": "bonn", "code": 5}
    told = served.http.infer("columns", {**inputs, "city": np.array([b"lima"] * 8, object)})
    assert told.status == 400
    assert "'lima', which the model was not trained with" in told.json()["error"]


def test_categories_that_the_file_does_not_have_are_told(tmp_path: Path) -> None:
    rows = np.stack([X[:, 0], THREE], axis=1)
    model = xgboost.XGBClassifier(**SMALL, enable_categorical=True, feature_types=["q", "c"]).fit(rows, Y)
    model.save_model(tmp_path / "places.json")
    source = describe(Question(tmp_path / "places.json"))[0]["source"]
    assert "does not have the categories of 1" in source["note"]
    same(answers(tmp_path / "places.json", {"x": rows[:8].astype(np.float32)}), classified(model, rows[:8]), 1e-6)


def test_categories_that_are_not_ascii_are_places(tmp_path: Path) -> None:
    cities = pd.Categorical(np.array(["Zürich", "łódź", "東京"])[THREE])
    table = pd.DataFrame({"city": cities, "code": pd.Categorical(THREE)})
    model = xgboost.XGBClassifier(**SMALL, enable_categorical=True).fit(table, Y)
    model.save_model(tmp_path / "far.json")
    (described,) = describe(Question(tmp_path / "far.json"))
    assert "the categories of city, which XGBoost keeps" in described["source"]["note"]
    inputs = {"city": cities.codes[:8].astype(np.float32), "code": THREE[:8].astype(np.int64)}
    same(answers(tmp_path / "far.json", inputs), classified(model, table[:8]), 1e-6)


def test_a_training_that_stopped_early(tmp_path: Path) -> None:
    held_out = [(X, CHANCE.integers(0, 2, 60))]
    model = xgboost.XGBClassifier(n_estimators=30, early_stopping_rounds=5).fit(X, Y, eval_set=held_out, verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    path = tmp_path / "early.ubj"
    model.save_model(path)
    same(answers(path, {"x": X[:8]}), classified(model, X[:8]), 1e-6)
    second = model.get_booster().predict(xgboost.DMatrix(X[:8]))
    every = answers(path, {"x": X[:8]}, Declared(runtime_options={"iterations": "all"}))
    np.testing.assert_allclose(every["probabilities"][:, 1], second, rtol=1e-6)
    with pytest.raises(ConfigError, match="it wants one of best, all"):
        answers(path, {"x": X[:8]}, Declared(runtime_options={"iterations": "some"}))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("old.model", b"binf" + bytes(200), "is in the binary format that XGBoost 3.1 gave up"),
        ("older.model", BEFORE_JSON, "is in the binary format that XGBoost 3.1 gave up"),
        ("dump.txt", b"booster[0]:\n0:[f0<0.03]", "is a dump of an XGBoost model"),
        ("dump.json", b'[\n  { "nodeid": 0, "depth": 0', "is a dump of an XGBoost model"),
        ("settings.json", b'{"learner":{"generic_param":{}}}', "is the configuration of an XGBoost model"),
        ("other.json", b'{"learner": {"attributes": 3}}', "cannot be loaded by xgboost"),
        ("page.ubj", b"<!doctype html><p>no such model", "page.ubj is an HTML page"),
        ("noise.ubj", bytes(range(128, 256)), "noise.ubj is no XGBoost model"),
    ],
)
def test_what_is_no_model_of_xgboost(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TargetError, match=told):
        answers(tmp_path / name, {})


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    xgboost.XGBClassifier(**SMALL).fit(X, Y).save_model(tmp_path / "model1.ubj")
    check_damage(serve, tmp_path / "model1.ubj", "model1.ubj")
