"""scikit-learn: skops archives, and pickles where they are trusted."""

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from formats.compared import Arrays, check_answers, check_damage, refusal
from serving import Serve

FORMAT = "sklearn"
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(8, 4))
Y = (X[:, 0] > 0).astype(int)
NAMES = np.array(["no", "yes"])


def classified(model: Any, arrays: Arrays) -> Arrays:
    x = arrays["x"]
    label = model.predict(x)
    return {
        "label": label.astype(object) if label.dtype.kind == "U" else label,
        "probabilities": model.predict_proba(x),
    }


@pytest.mark.parametrize("labels", [Y, NAMES[Y]], ids=["numbers", "texts"])
def test_a_pipeline_answers_as_it_does_itself(serve: Serve, tmp_path: Path, labels: np.ndarray) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, labels)
    path = tmp_path / "pipeline.skops"
    skops.io.dump(model, path)
    served = check_answers(serve, path, {"x": X}, lambda arrays: classified(model, arrays))
    assert served.http.get("/v2/models/pipeline").json()["inputs"] == [
        {"name": "x", "datatype": "FP64", "shape": [-1, 4]}
    ]


def test_a_forest_needs_no_trust(serve: Serve, tmp_path: Path) -> None:
    model = RandomForestClassifier(5, random_state=0).fit(X, Y)
    skops.io.dump(model, tmp_path / "forest.skops")
    check_answers(serve, tmp_path / "forest.skops", {"x": X}, lambda arrays: classified(model, arrays))


def test_columns_of_texts_are_inputs_of_their_own(serve: Serve, tmp_path: Path) -> None:
    table = pd.DataFrame({"age": X[:, 0], "city": np.array(["a", "b"] * 4, object), "fare": X[:, 1]})
    encoded = ColumnTransformer([("text", OneHotEncoder(handle_unknown="ignore"), ["city"])], remainder="passthrough")
    model = make_pipeline(encoded, LinearRegression()).fit(table, X[:, 2])
    skops.io.dump(model, tmp_path / "columns.skops")
    inputs = {"age": X[:, 0], "city": np.array([b"a", b"b"] * 4, object), "fare": X[:, 1]}

    def expected(arrays: Arrays) -> Arrays:
        frame = pd.DataFrame({name: [_text(value) for value in array] for name, array in arrays.items()})
        return {"prediction": model.predict(frame)}

    check_answers(serve, tmp_path / "columns.skops", inputs, expected)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def test_a_pickle_is_served_only_where_it_is_trusted(serve: Serve, tmp_path: Path) -> None:
    model = LinearRegression().fit(X, X @ np.eye(4)[:, :2])
    joblib.dump(model, tmp_path / "linear.pkl")
    told = refusal(serve, tmp_path / "linear.pkl")
    assert "unsafe_format" in told
    assert "skops.io.dump" in told
    assert "--trust linear" in told
    served = check_answers(
        serve,
        tmp_path / "linear.pkl",
        {"x": X},
        lambda arrays: {"prediction": model.predict(arrays["x"])},
        arguments=["--trust", "linear"],
    )
    assert "trusted" in served.output()


class Malicious:
    """Its pickle leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_malicious_pickle_is_not_run(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Malicious(tmp_path / "run")))
    refusal(serve, tmp_path / "bad.pkl")
    skops.io.dump(Malicious(tmp_path / "run"), tmp_path / "bad.skops")
    assert "unsafe_format" in refusal(serve, tmp_path / "bad.skops")
    assert not (tmp_path / "run").exists()


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    skops.io.dump(LinearRegression().fit(X, Y), tmp_path / "model1.skops")
    check_damage(serve, tmp_path / "model1.skops")
