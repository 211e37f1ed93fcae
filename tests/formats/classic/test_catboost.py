"""CatBoost: its binary form, each kind of loss, and columns of categories, texts and vectors."""

from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pandas as pd
import pytest

from formats.compared import Arrays, answers, check_answers, check_damage, same
from samovar.config.declared import Declared, DeclaredTensor
from samovar.errors import TargetError
from serving import Serve

FORMAT = "catboost"
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
THREE = CHANCE.integers(0, 3, 60)
CITIES = np.array(["rome", "oslo", "bonn"])[THREE]
SMALL: dict[str, Any] = {
    "iterations": 4, "depth": 2, "verbose": False, "allow_writing_files": False, "thread_count": 1,
}  # fmt: skip


def saved(model: Any, path: Path) -> Path:
    model.save_model(path)
    return path


def classified(model: Any, rows: Any) -> Arrays:
    label = model.predict(rows).reshape(len(rows), -1)
    label = label[:, 0] if label.shape[1] == 1 else label
    return {"label": label, "probabilities": model.predict_proba(rows)}


def test_a_classifier_answers_as_it_does_itself(serve: Serve, tmp_path: Path) -> None:
    model = catboost.CatBoostClassifier(**SMALL).fit(X, CITIES)
    path = saved(model, tmp_path / "three.cbm")
    served = check_answers(serve, path, {"x": X[:8]}, lambda arrays: classified(model, arrays["x"]))
    assert served.http.get("/v2/models/three").json()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("Logloss", Y),
        ("CrossEntropy", Y),
        ("MultiClass", THREE),
        ("MultiClassOneVsAll", THREE),
        ("MultiLogloss", (X[:, :2] > 0).astype(int)),
    ],
    ids=["Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll", "MultiLogloss"],
)
def test_classes_of_each_loss(tmp_path: Path, loss: str, targets: np.ndarray) -> None:
    model = catboost.CatBoostClassifier(**SMALL, loss_function=loss).fit(X, targets)
    holed = X[:8].copy()
    holed[1, 2] = np.nan  # a missing value
    same(answers(saved(model, tmp_path / "classes.cbm"), {"x": holed}), classified(model, holed), 1e-9)


def test_the_threshold_of_two_classes_is_the_models_own(tmp_path: Path) -> None:
    model = catboost.CatBoostClassifier(**SMALL).fit(X, Y)
    model.set_probability_threshold(0.9)
    path = saved(model, tmp_path / "two.cbm")
    found = answers(path, {"x": X})
    same(found, classified(model, X), 1e-9)
    assert (found["label"] != (found["probabilities"][:, 1] > 0.5)).any()


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("RMSE", X[:, 0]),
        ("MultiRMSE", X[:, :2]),
        ("RMSEWithUncertainty", X[:, 0]),
        ("Poisson", THREE),
        ("Tweedie:variance_power=1.5", THREE),
        ("MultiQuantile:alpha=0.1,0.5,0.9", X[:, 0]),
    ],
    ids=["RMSE", "MultiRMSE", "RMSEWithUncertainty", "Poisson", "Tweedie", "MultiQuantile"],
)
def test_numbers_of_each_loss(tmp_path: Path, loss: str, targets: np.ndarray) -> None:
    model = catboost.CatBoostRegressor(**SMALL, loss_function=loss).fit(X, targets)
    same(answers(saved(model, tmp_path / "one.cbm"), {"x": X[:8]}), {"prediction": model.predict(X[:8])}, 1e-9)


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide"])
def test_json_is_read_too(tmp_path: Path, policy: str) -> None:
    model = catboost.CatBoostClassifier(**SMALL, grow_policy=policy).fit(X, CITIES)
    model.save_model(tmp_path / "three.json", format="json")
    same(answers(tmp_path / "three.json", {"x": X[:8]}), classified(model, X[:8]), 1e-9)
    content = (tmp_path / "three.json").read_bytes()
    for damaged, fault in (
        (content[: len(content) // 2], "is cut or damaged"),
        (b'{"features_info": {}}', "has no model"),
    ):
        (tmp_path / "three.json").write_bytes(damaged)
        with pytest.raises(TargetError, match=fault):
            answers(tmp_path / "three.json", {})


def test_ranks(tmp_path: Path) -> None:
    model = catboost.CatBoostRanker(**SMALL).fit(X, THREE, group_id=np.repeat([0, 1], 30))
    same(answers(saved(model, tmp_path / "ranks.cbm"), {"x": X[:8]}), {"prediction": model.predict(X[:8])}, 1e-9)


def test_categories_and_texts_are_inputs_of_their_own(serve: Serve, tmp_path: Path) -> None:
    notes = np.array(["good fine day", "bad bad", "so so thing"])[THREE]
    table = pd.DataFrame({"city": CITIES, "age": X[:, 0], "code": THREE, "note": notes})
    model = catboost.CatBoostClassifier(**SMALL, cat_features=["city", "code"], text_features=["note"])
    model.fit(table, X[:, 1] + THREE > 1)
    inputs = {
        "city": np.array([b"lima", *[city.encode() for city in CITIES[1:8]]], object),
        "age": X[:8, 0],
        "code": np.array([b"%d" % code for code in THREE[:8]], object),
        "note": np.array([note.encode() for note in notes[:8]], object),
    }

    def expected(arrays: Arrays) -> Arrays:
        rows = table[: len(arrays["age"])].assign(city=[city.decode() for city in arrays["city"]])
        probabilities = model.predict_proba(rows)
        return {"label": probabilities.argmax(1), "probabilities": probabilities}

    check_answers(serve, saved(model, tmp_path / "columns.cbm"), inputs, expected)


def test_the_length_of_vectors_is_to_be_declared(tmp_path: Path) -> None:
    table = pd.DataFrame({"age": X[:, 0], "v": list(X[:, 1:])})
    model = catboost.CatBoostClassifier(**SMALL, embedding_features=["v"]).fit(table, THREE)
    path = saved(model, tmp_path / "vectors.cbm")
    inputs = {"age": X[:8, 0], "v": X[:8, 1:]}
    with pytest.raises(TargetError, match='does not say how long the vectors of "v" are') as told:
        answers(path, inputs)
    assert 'inputs = [{ name = "v", shape = ["batch", 16] }]' in (told.value.next_step or "")
    declared = Declared(inputs=(DeclaredTensor("v", shape=("batch", 3)),))
    same(answers(path, inputs, declared), classified(model, table[:8]), 1e-9)


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    path = saved(catboost.CatBoostClassifier(**SMALL).fit(X, Y), tmp_path / "model1.cbm")
    check_damage(serve, path, "model1.cbm")
