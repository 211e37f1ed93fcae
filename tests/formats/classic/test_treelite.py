"""Forests by treelite: its checkpoints, and files of XGBoost, LightGBM and scikit-learn that samovar.toml gives it."""

from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import skops.io
import treelite
import treelite.sklearn
import xgboost
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)

from formats.compared import Arrays, answers, check_answers, check_damage, same
from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError, UnsafeFormatError
from samovar.runtimes import Question, describe, runtime_for
from serving import Serve

FORMAT = "treelite"
pytestmark = pytest.mark.filterwarnings("ignore:.*feature names:UserWarning")
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(90, 4))
Y = (X[:, 0] > 0).astype(int)
THREE = CHANCE.integers(0, 3, 90)
NAMES = np.array(["no", "perhaps", "yes"])[THREE]
BY_TREELITE = Declared(runtime="treelite")


def as_itself(path: Path, dtype: type = np.float32) -> None:
    """What treelite answers of a file has the names, shapes and values of what its own package answers."""
    x = X.astype(dtype)
    same(answers(path, {"x": x}, BY_TREELITE), answers(path, {"x": x}), 1e-5)


def test_a_checkpoint_is_served(serve: Serve, tmp_path: Path) -> None:
    model = RandomForestClassifier(5, random_state=0).fit(X, THREE)
    path = tmp_path / "forest.tl"
    treelite.sklearn.import_model(model).serialize(path)
    x = X[:8].astype(np.float32).astype(np.float64)

    def expected(arrays: Arrays) -> Arrays:
        return {"label": model.predict(arrays["x"]), "probabilities": model.predict_proba(arrays["x"])}

    served = check_answers(serve, path, {"x": x}, expected)
    assert served.http.get("/v2/models/forest").json()["inputs"] == [
        {"name": "x", "datatype": "FP64", "shape": [-1, 4]}
    ]


def test_a_checkpoint_is_known_by_its_content(tmp_path: Path) -> None:
    treelite.sklearn.import_model(RandomForestRegressor(3).fit(X, X[:, 0])).serialize(tmp_path / "any.bin")
    assert runtime_for(tmp_path / "any.bin").ABOUT.extra == "treelite"


def test_a_forest_of_xgboost_is_served_by_treelite(serve: Serve, tmp_path: Path) -> None:
    model = xgboost.XGBClassifier(n_estimators=4, n_jobs=1).fit(X.astype(np.float32), Y)
    model.save_model(tmp_path / "two.ubj")

    def expected(arrays: Arrays) -> Arrays:
        return {"label": model.predict(arrays["x"]), "probabilities": model.predict_proba(arrays["x"])}

    inputs = {"x": X[:8].astype(np.float32)}
    check_answers(serve, tmp_path / "two.ubj", inputs, expected, options='runtime = "treelite"')


@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize(
    ("parameters", "targets"),
    [
        ({"objective": "multi:softprob", "num_class": 3}, THREE),
        ({"objective": "multi:softmax", "num_class": 3}, THREE),
        ({"objective": "binary:hinge"}, Y),
        ({"objective": "binary:logitraw"}, Y),
        ({"objective": "reg:logistic", "num_parallel_tree": 2}, Y),
        ({"objective": "count:poisson", "booster": "dart"}, THREE),
        ({"objective": "binary:logistic"}, (X[:, :2] > 0).astype(int)),
        ({"objective": "reg:squarederror", "multi_strategy": "multi_output_tree"}, X[:, :2]),
    ],
    ids=["softprob", "softmax", "hinge", "logitraw", "parallel", "dart", "many", "vectors"],
)
def test_a_forest_of_xgboost(tmp_path: Path, parameters: dict[str, Any], targets: np.ndarray, suffix: str) -> None:
    model = xgboost.train({**parameters, "nthread": 1}, xgboost.DMatrix(X, targets), 4)
    model.save_model(tmp_path / f"model1.{suffix}")
    as_itself(tmp_path / f"model1.{suffix}")


@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_the_best_of_many_iterations_are_for_xgboost_itself(tmp_path: Path, suffix: str) -> None:
    held_out = [(X, CHANCE.integers(0, 3, 90))]
    model = xgboost.XGBClassifier(n_estimators=30, early_stopping_rounds=5).fit(
        X, THREE, eval_set=held_out, verbose=False
    )
    model.save_model(tmp_path / f"early.{suffix}")
    with pytest.raises(TargetError, match=f"stopped early: the best are {model.best_iteration + 1} iterations"):
        describe(Question(tmp_path / f"early.{suffix}", declared=BY_TREELITE))
    model.get_booster()[: model.best_iteration + 1].save_model(tmp_path / f"best.{suffix}")
    as_itself(tmp_path / f"best.{suffix}")


@pytest.mark.parametrize("objective", ["binary", "multiclass", "multiclassova", "cross_entropy", "poisson"])
def test_a_forest_of_lightgbm(tmp_path: Path, objective: str) -> None:
    classes = {"num_class": 3} if "multi" in objective else {}
    parameters = {"objective": objective, "verbose": -1, "num_threads": 1, **classes}
    model = lightgbm.train(parameters, lightgbm.Dataset(X, THREE if classes else Y), 4)
    model.save_model(tmp_path / "model1.txt")
    as_itself(tmp_path / "model1.txt", np.float64)


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        (RandomForestClassifier(5), NAMES),
        (ExtraTreesClassifier(5), Y),
        (RandomForestRegressor(5), X[:, :2]),
        (GradientBoostingClassifier(n_estimators=5), Y),
        (GradientBoostingClassifier(n_estimators=5), NAMES),
        (GradientBoostingRegressor(n_estimators=5), X[:, 1]),
        (HistGradientBoostingClassifier(max_iter=5), NAMES),
        (HistGradientBoostingRegressor(max_iter=5), X[:, 1]),
        (HistGradientBoostingRegressor(loss="poisson", max_iter=5), Y),
        (IsolationForest(n_estimators=5), None),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_a_forest_of_scikit_learn(tmp_path: Path, model: Any, targets: Any) -> None:
    skops.io.dump(model.fit(X, targets), tmp_path / "model1.skops")
    as_itself(tmp_path / "model1.skops", np.float64)


def test_a_forest_of_scikit_learn_compares_fp32(tmp_path: Path) -> None:
    model = RandomForestRegressor(3, bootstrap=False).fit([[1.0], [2.0]] * 20, [0.0, 1.0] * 20)
    skops.io.dump(model, tmp_path / "near.skops")
    near = np.array([[1.5 + 1e-12], [1.5], [1.6]])  # 1.5 is the threshold, and the first is 1.5 in FP32
    found = answers(tmp_path / "near.skops", {"x": near}, BY_TREELITE)
    np.testing.assert_array_equal(found["prediction"], model.predict(near))
    plain = treelite.gtil.predict(treelite.sklearn.import_model(model), near, nthread=1).ravel()
    assert (plain != model.predict(near)).any()


def test_a_forest_of_categories(tmp_path: Path) -> None:
    table = np.column_stack((X[:, 0], THREE))
    skops.io.dump(HistGradientBoostingClassifier(categorical_features=[1]).fit(table, Y), tmp_path / "model1.skops")
    trusting = Declared(runtime="treelite", trust=True)  # it holds a function that skops does not know
    found = answers(tmp_path / "model1.skops", {"x": table}, trusting)
    same(found, answers(tmp_path / "model1.skops", {"x": table}, Declared(trust=True)), 1e-5)


def test_what_treelite_translates_wrongly_is_refused(tmp_path: Path) -> None:
    model = GradientBoostingClassifier(n_estimators=5, loss="exponential").fit(X, Y)
    skops.io.dump(model, tmp_path / "wrong.skops")
    with pytest.raises(TargetError, match="treelite answers otherwise than scikit-learn"):
        describe(Question(tmp_path / "wrong.skops", declared=BY_TREELITE))


def test_a_pickle_is_read_only_where_it_is_trusted(tmp_path: Path) -> None:
    path = tmp_path / "forest.pkl"
    joblib.dump(RandomForestClassifier(3).fit(X, Y), path)
    with pytest.raises(UnsafeFormatError, match="unsafe_format"):
        describe(Question(path, declared=BY_TREELITE))
    trusting = Declared(runtime="treelite", trust=True)
    description = describe(Question(path, declared=trusting))[0]
    assert description["source"]["trusted"]
    source = {name: value for name, value in description["source"].items() if name != "trusted"}
    with pytest.raises(UnsafeFormatError, match="not trusted"):
        runtime_for(path).load({**description, "source": source, "options": {"threads": 1}})
    same(answers(path, {"x": X}, trusting), answers(path, {"x": X}, Declared(trust=True)), 1e-9)


def test_what_treelite_cannot_run_is_told(tmp_path: Path) -> None:
    model = lightgbm.train({"linear_tree": True, "verbose": -1}, lightgbm.Dataset(X, X[:, 1]), 2)
    model.save_model(tmp_path / "linear.txt")
    with pytest.raises(TargetError, match="linear trees") as told:
        describe(Question(tmp_path / "linear.txt", declared=BY_TREELITE))
    assert "remove runtime = 'treelite'" in (told.value.next_step or "")
    with pytest.raises(ConfigError, match='unknown runtime option "fast"'):
        answers(tmp_path / "linear.txt", {}, Declared(runtime="treelite", runtime_options={"fast": True}))
    (tmp_path / "page.tl").write_text("<html>")
    with pytest.raises(TargetError, match=r"page\.tl is an HTML page"):
        describe(Question(tmp_path / "page.tl"))


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    treelite.sklearn.import_model(RandomForestRegressor(3).fit(X, X[:, 0])).serialize(tmp_path / "model1.tl")
    check_damage(serve, tmp_path / "model1.tl", "model1.tl is")
