"""LightGBM: the text form, each kind of objective, and categories of a data frame."""

import json
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest

from formats.compared import Arrays, answers, check_answers, check_damage, same
from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError
from samovar.runtimes import Question, describe
from serving import Serve

FORMAT = "lightgbm"
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(90, 4))
Y = (X[:, 0] > 0).astype(int)
THREE = CHANCE.integers(0, 3, 90)
CITIES = np.array(["rome", "oslo", "bonn"])[THREE]
SMALL: dict[str, Any] = {
    "n_estimators": 4, "num_leaves": 4, "min_child_samples": 5, "n_jobs": 1, "verbose": -1, "min_data_per_group": 1,
    "cat_smooth": 1.0,
}  # fmt: skip


def saved(model: Any, path: Path) -> Path:
    (model.booster_ if hasattr(model, "booster_") else model).save_model(path)
    return path


def classified(model: Any, rows: Any) -> Arrays:
    scores = model.booster_.predict(rows)
    scores = scores if scores.ndim == 2 else np.stack((1 - scores, scores), 1)
    return {"label": scores.argmax(1), "probabilities": scores}


def test_a_classifier_answers_as_it_does_itself(serve: Serve, tmp_path: Path) -> None:
    table = pd.DataFrame(X, columns=["a b", "c", "d", "e"])  # lightgbm makes a_b of it
    model = lightgbm.LGBMClassifier(**SMALL).fit(table, THREE)
    path = saved(model, tmp_path / "three.txt")
    served = check_answers(serve, path, {"x": X[:8]}, lambda arrays: classified(model, arrays["x"]))
    wanted = {"name": "x", "datatype": "FP64", "shape": [-1, 4], "columns": ["a_b", "c", "d", "e"]}
    assert served.http.get("/v2/models/three").json()["inputs"] == [wanted]


@pytest.mark.parametrize("objective", ["binary", "multiclassova"])
def test_classes_by_each_objective(tmp_path: Path, objective: str) -> None:
    model = lightgbm.LGBMClassifier(**SMALL, objective=objective).fit(X, Y if objective == "binary" else THREE)
    holed = X[:8].copy()
    holed[1, 2] = np.nan  # a missing value
    found = answers(saved(model, tmp_path / "classes.txt"), {"x": holed})
    same(found, classified(model, holed), 1e-9)
    np.testing.assert_array_equal(found["label"], model.predict(holed))


@pytest.mark.parametrize("objective", ["regression", "poisson", "lambdarank", "cross_entropy", None])
def test_numbers_of_each_kind(tmp_path: Path, objective: str | None) -> None:
    def squares(scores: np.ndarray, data: lightgbm.Dataset) -> tuple[np.ndarray, np.ndarray]:
        return scores - data.get_label(), np.ones_like(scores)

    group = [30, 60] if objective == "lambdarank" else None
    data = lightgbm.Dataset(X, Y, group=group, free_raw_data=False)
    model = lightgbm.train({"objective": objective or squares, "verbose": -1, "num_threads": 1}, data, 4)
    same(answers(saved(model, tmp_path / "one.txt"), {"x": X[:8]}), {"prediction": model.predict(X[:8])}, 1e-9)


def test_columns_of_categories_are_inputs_of_their_own(serve: Serve, tmp_path: Path) -> None:
    table = pd.DataFrame({"age": X[:, 0], "city": pd.Categorical(CITIES), "code": pd.Categorical(THREE + 5)})
    model = lightgbm.LGBMClassifier(**SMALL).fit(table, (X[:, 1] + THREE > 1).astype(int))
    texts = np.array([city.encode() for city in (*CITIES[:7], "lima")], object)  # the last was not in the training
    inputs = {"age": X[:8, 0], "city": texts, "code": (THREE + 5)[:8].astype(np.int64)}

    def expected(arrays: Arrays) -> Arrays:
        rows = {"age": arrays["age"], "city": [city.decode() for city in arrays["city"]], "code": arrays["code"]}
        return classified(model, pd.DataFrame(rows).astype({"city": "category", "code": "category"}))

    check_answers(serve, saved(model, tmp_path / "columns.txt"), inputs, expected)


def test_categories_of_unknown_columns_are_told(tmp_path: Path) -> None:
    ordered = pd.Categorical(
        CITIES, ["bonn", "oslo", "rome"], ordered=True
    )  # a number to lightgbm, with a list all the same
    table = pd.DataFrame({"age": X[:, 0], "city": ordered, "code": pd.Categorical(THREE)})
    model = lightgbm.LGBMClassifier(**SMALL).fit(table, Y)
    source = describe(Question(saved(model, tmp_path / "ordered.txt")))[0]["source"]
    assert "which columns its categories are of" in source["note"]
    codes = np.stack((X[:8, 0], ordered.codes[:8], THREE[:8]), 1)
    same(answers(tmp_path / "ordered.txt", {"x": codes}), classified(model, table[:8]), 1e-9)


@pytest.mark.filterwarnings("ignore:categorical_feature")
def test_categories_of_another_column_than_the_parameters_say_are_told(tmp_path: Path) -> None:
    table = pd.DataFrame({"city": pd.Categorical(CITIES), "code": THREE + 5})
    data = lightgbm.Dataset(table, Y, categorical_feature=["code"])
    model = lightgbm.train({"verbose": -1, "num_threads": 1, "min_data_per_group": 1}, data, 4)
    description = describe(Question(saved(model, tmp_path / "other.txt")))[0]
    assert [tensor["name"] for tensor in description["inputs"]] == ["x"]
    assert "which columns its categories are of" in description["source"]["note"]


def test_prediction_that_stops_early_is_an_option(tmp_path: Path) -> None:
    model = lightgbm.LGBMClassifier(**{**SMALL, "n_estimators": 60, "learning_rate": 0.5}).fit(X, Y)
    path = saved(model, tmp_path / "many.txt")
    options = {"pred_early_stop": True, "pred_early_stop_freq": 1, "pred_early_stop_margin": 1.5}
    early = answers(path, {"x": X}, Declared(runtime_options=options))
    np.testing.assert_allclose(early["probabilities"][:, 1], model.booster_.predict(X, **options))
    assert np.abs(early["probabilities"] - answers(path, {"x": X})["probabilities"]).max() > 0.01
    with pytest.raises(ConfigError, match='unknown runtime option "early"'):
        answers(path, {"x": X}, Declared(runtime_options={"early": True}))


def test_a_text_that_ends_early_is_not_given_to_lightgbm_which_would_crash(tmp_path: Path) -> None:
    path = saved(lightgbm.LGBMClassifier(**SMALL).fit(X, THREE), tmp_path / "whole.txt")
    content = path.read_bytes()
    middle = content.index(b"[num_leaves")
    for damaged in (content[:middle], content[: middle // 2], content.replace(b"Tree=3", b"Tree=4"), content[:60]):
        path.write_bytes(damaged)
        with pytest.raises(TargetError, match=r"whole\.txt is cut or changed"):
            answers(path, {})


def test_a_text_with_other_ends_of_lines(tmp_path: Path) -> None:
    model = lightgbm.LGBMClassifier(**SMALL).fit(X, Y)
    path = saved(model, tmp_path / "windows.txt")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    same(answers(path, {"x": X[:8]}), classified(model, X[:8]), 1e-9)


def test_a_dump_is_told_apart(tmp_path: Path) -> None:
    model = lightgbm.LGBMClassifier(**SMALL).fit(X, Y)
    (tmp_path / "dump.json").write_text(json.dumps(model.booster_.dump_model()))
    with pytest.raises(TargetError, match=r"a dump of a LightGBM model.*save_model\('model.txt'\)"):
        answers(tmp_path / "dump.json", {})


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    path = saved(lightgbm.LGBMClassifier(**SMALL).fit(X, Y), tmp_path / "model1.txt")
    check_damage(serve, path, "model1.txt is cut or changed", is_named=False)
