"""scikit-learn: skops archives, and pickles where they are trusted."""

import pickle
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC

from formats.compared import Arrays, answers, check_answers, check_damage, refusal, same
from samovar.config.declared import Declared, DeclaredTensor
from samovar.errors import ConfigError, TargetError
from samovar.runtimes import Question, describe
from samovar.types import Datatype
from serving import Serve

FORMAT = "sklearn"
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(8, 4))
Y = (X[:, 0] > 0).astype(int)
NAMES = np.array(["no", "yes"])
CITIES = np.array(["rome", "oslo", "bonn", "rome"] * 2, object)
NOTES = [f"{city} is a {'good' if good else 'bad'} town" for city, good in zip(CITIES, Y, strict=True)]
TRUSTED = Declared(trust=True)


def in_bytes(texts: Any) -> np.ndarray:
    """Texts as they travel; what is none is an empty one."""
    return np.array([text.encode() if isinstance(text, str) else b"" for text in texts], object)


def saved(model: Any, path: Path) -> Path:
    skops.io.dump(model, path)
    return path


def classified(model: Any, arrays: Arrays) -> Arrays:
    return told(model, arrays["x"])


def told(model: Any, x: Any) -> dict[str, np.ndarray]:
    """What a classifier says itself."""
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

    served = check_answers(serve, tmp_path / "columns.skops", inputs, expected, options="threads = 2")
    assert served.processes() == served.workers()  # joblib starts none for a transformer of columns


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def test_what_refuses_a_row_is_told_to_its_client(serve: Serve, tmp_path: Path) -> None:
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(CITIES[:, None], Y)
    served = check_answers(
        serve, saved(model, tmp_path / "strict.skops"), {"x": in_bytes(CITIES)[:, None]},
        lambda arrays: told(model, np.vectorize(bytes.decode, otypes=[object])(arrays["x"])),
    )  # fmt: skip
    answer = served.http.infer("strict", {"x": np.array([[b"lima"]], object)})
    assert answer.status == 400
    assert "unknown categories" in answer.json()["error"]


def test_documents_are_one_input(serve: Serve, tmp_path: Path) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(NOTES, CITIES)

    def expected(arrays: Arrays) -> Arrays:
        found = told(model, [text.decode() for text in arrays["text"]])
        return {**found, "label": found["label"].astype(object)}

    check_answers(serve, saved(model, tmp_path / "notes.skops"), {"text": in_bytes(NOTES)}, expected)


@pytest.mark.parametrize(
    "model",
    [
        TfidfVectorizer(),
        HashingVectorizer(n_features=8),
        make_union(TfidfVectorizer(), TfidfVectorizer(analyzer="char")),
        GridSearchCV(make_pipeline(TfidfVectorizer(), LinearSVC()), {"linearsvc__C": [1, 2]}, cv=2),
    ],
    ids=["tfidf", "hashing", "union", "grid"],
)
def test_documents_of_each_kind(tmp_path: Path, model: Any) -> None:
    model.fit(NOTES, Y)
    found = answers(saved(model, tmp_path / "notes.skops"), {"text": in_bytes(NOTES)})
    if hasattr(model, "predict"):
        same(found, {"label": model.predict(NOTES)}, 1e-9)
    else:
        same(found, {"transformed": model.transform(NOTES).toarray()}, 1e-9)


TABLE = pd.DataFrame({"city": CITIES, "age": X[:, 0], "note": NOTES, "id": CITIES[::-1]})
FILLED = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))


@pytest.mark.parametrize(
    "parts",
    [
        [("texts", FILLED, ["city"]), ("numbers", SimpleImputer(), ["age"])],
        [("texts", FILLED, [0]), ("numbers", SimpleImputer(), [1])],
        [("texts", FILLED, slice(0, 1)), ("numbers", SimpleImputer(), slice("age", "age"))],
        [("texts", FILLED, [True, False, False, False]), ("numbers", SimpleImputer(), make_column_selector("age"))],
    ],
    ids=["names", "places", "slices", "masks"],
)
def test_columns_that_are_used_are_inputs_and_empty_texts_are_missing(tmp_path: Path, parts: Any) -> None:
    holed = TABLE.copy()
    holed.loc[3, "city"] = None
    holed.loc[4, "age"] = np.nan
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(holed, Y)
    inputs = {"city": in_bytes(holed["city"]), "age": holed["age"].to_numpy()}
    path = saved(model, tmp_path / "holed.skops")
    assert [tensor["name"] for tensor in describe(Question(path))[0]["inputs"]] == ["city", "age"]
    same(answers(path, inputs), told(model, holed), 1e-9)
    assert set(describe(Question(path))[0]["source"]["examples"]) == {"city"}
    strict = make_pipeline(ColumnTransformer([("texts", OneHotEncoder(), ["city"])]), LogisticRegression())
    objects = holed.assign(city=holed["city"].astype(object).where(holed["city"].notna(), None))
    same(answers(saved(strict.fit(objects, Y), path), {"city": inputs["city"]}), told(strict, objects), 1e-9)


def test_columns_are_found_in_what_holds_the_estimator(tmp_path: Path) -> None:
    parts = [("note", TfidfVectorizer(), "note"), ("city", OrdinalEncoder(), ["city"])]
    encoded = make_pipeline(ColumnTransformer(parts), LogisticRegression())
    inputs = {"city": in_bytes(CITIES), "note": in_bytes(NOTES)}
    for model in (GridSearchCV(encoded, {"logisticregression__C": [1]}, cv=2), CalibratedClassifierCV(encoded, cv=2)):
        model.fit(TABLE[["city", "note"]], Y)
        path = tmp_path / f"{type(model).__name__}.skops"
        same(answers(saved(model, path), inputs), told(model, TABLE[["city", "note"]]), 1e-9)


def test_categories_of_forests(tmp_path: Path) -> None:
    import catboost
    import lightgbm
    import xgboost

    table = pd.DataFrame({"age": np.tile(X[:, 0], 5), "city": pd.Categorical(np.tile(CITIES, 5))})
    inputs = {"age": X[:, 0], "city": in_bytes(CITIES)}
    for model in (
        HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=2),
        xgboost.XGBClassifier(n_estimators=3, enable_categorical=True),
        lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, min_child_samples=2, min_data_per_group=1, cat_smooth=1),
        catboost.CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False, cat_features=["city"]),
    ):
        model.fit(table, np.tile(Y, 5))
        joblib.dump(model, tmp_path / "forest.pkl")
        same(answers(tmp_path / "forest.pkl", inputs, TRUSTED), told(model, table[:8]), 1e-6)


def test_a_column_is_of_the_datatype_that_is_declared(tmp_path: Path) -> None:
    table = pd.DataFrame({"paid": Y == 1, "age": X[:, 0]})
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(table, Y)
    declared = Declared(inputs=(DeclaredTensor("paid", Datatype.BOOL),))
    found = answers(saved(model, tmp_path / "paid.skops"), {"paid": Y == 1, "age": X[:, 0]}, declared)
    same(found, told(model, table), 1e-9)


def test_labels_of_several_targets(tmp_path: Path) -> None:
    many = (X[:, :3] > 0).astype(int)
    model = OneVsRestClassifier(LogisticRegression()).fit(X, many)
    same(answers(saved(model, tmp_path / "many.skops"), {"x": X}), told(model, X), 1e-9)
    texts = np.stack([CITIES, NAMES[Y].astype(object)], axis=1).astype(str)
    forest = RandomForestClassifier(3).fit(X, texts)
    path = saved(forest, tmp_path / "texts.skops")
    odds = forest.predict_proba(X)
    wanted = {"label": forest.predict(X).astype(object), "probabilities_0": odds[0], "probabilities_1": odds[1]}
    same(answers(path, {"x": X}), wanted, 1e-9)
    labels = {"probabilities_0": ["bonn", "oslo", "rome"], "probabilities_1": ["no", "yes"]}
    assert describe(Question(path))[0]["source"]["labels"] == labels


def test_groups_and_transformed_rows(tmp_path: Path) -> None:
    groups = make_pipeline(StandardScaler(), KMeans(2)).fit(X)
    same(answers(saved(groups, tmp_path / "groups.skops"), {"x": X}), {"label": groups.predict(X)}, 1e-9)
    mixture = GaussianMixture(2).fit(X)
    same(answers(saved(mixture, tmp_path / "mixture.skops"), {"x": X}), told(mixture, X), 1e-9)
    path = saved(PCA(2).fit(X), tmp_path / "pca.skops")
    assert describe(Question(path))[0]["outputs"] == [{"name": "transformed", "datatype": "FP64", "dims": [2]}]
    encoder = LabelEncoder().fit(CITIES)
    found = answers(saved(encoder, tmp_path / "labels.skops"), {"x": in_bytes(CITIES)})
    same(found, {"transformed": encoder.transform(CITIES)}, 1e-9)


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(2),
        MLPClassifier((3,), max_iter=5),
        GaussianProcessRegressor(),
        CalibratedClassifierCV(LinearSVC(), cv=2),
        GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2, scoring="f1"),
    ],
    ids=["neighbours", "network", "process", "calibrated", "search"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_of_scikit_learn_need_no_trust(tmp_path: Path, model: Any) -> None:
    model.fit(X, Y)
    wanted = told(model, X) if hasattr(model, "classes_") else {"prediction": model.predict(X)}
    same(answers(saved(model, tmp_path / "known.skops"), {"x": X}), wanted, 1e-9)


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (LogisticRegression(), "holds a LogisticRegression that is not fitted"),
        (make_pipeline(DictVectorizer(), LinearRegression()).fit([{"a": 1}, {"a": 2}], [1, 2]), "takes dictionaries"),
        (TfidfVectorizer(input="filename", vocabulary=["a"]), "reads files that requests name"),
        (make_pipeline(FILLED, HashingVectorizer(input="filename")), "reads files that requests name"),
    ],
    ids=["unfitted", "dictionaries", "files", "later files"],
)
def test_estimators_that_cannot_be_served(tmp_path: Path, model: Any, fault: str) -> None:
    with pytest.raises(TargetError, match=fault):
        answers(saved(model, tmp_path / "model1.skops"), {})


def test_a_booster_is_told_how_to_be_saved(tmp_path: Path) -> None:
    import xgboost

    joblib.dump(xgboost.train({}, xgboost.DMatrix(X, Y), 2), tmp_path / "booster.joblib")
    with pytest.raises(TargetError, match=r"holds a Booster of xgboost.*save_model\('model.ubj'\)"):
        answers(tmp_path / "booster.joblib", {}, TRUSTED)


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    path = saved(LinearRegression().fit(X, Y), tmp_path / "linear.skops")
    with pytest.raises(ConfigError, match='unknown runtime option "threads"'):
        answers(path, {"x": X}, Declared(runtime_options={"threads": 2}))


def test_pickles_that_joblib_compressed(tmp_path: Path) -> None:
    model = LinearRegression().fit(X, Y)
    for name in ("linear.pkl.gz", "linear.joblib.xz", "linear.joblib"):
        joblib.dump(model, tmp_path / name, compress=0 if name.count(".") > 1 else ("zlib", 3))
        same(answers(tmp_path / name, {"x": X}, TRUSTED), {"prediction": model.predict(X)}, 1e-9)


def of_another_version(model: Any, path: Path) -> str:
    """A pickle as another scikit-learn wrote it; its version."""
    version = "0." + "1" * (len(sklearn.__version__) - 2)
    path.write_bytes(pickle.dumps(model).replace(sklearn.__version__.encode(), version.encode()))
    return version


def test_another_version_of_scikit_learn_is_told(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, Y)
    version = of_another_version(model, tmp_path / "older.pkl")
    note = f"it is of scikit-learn {version}, and {sklearn.__version__} is installed: answers may differ"
    assert describe(Question(tmp_path / "older.pkl", declared=TRUSTED))[0]["source"]["note"] == note
    same(answers(tmp_path / "older.pkl", {"x": X}, TRUSTED), told(model, X), 1e-9)
    del model.coef_
    of_another_version(model, tmp_path / "older.pkl")
    with pytest.raises(TargetError, match=rf"{version}.*does not work: .*coef_.*; install the version that saved it"):
        answers(tmp_path / "older.pkl", {"x": X}, TRUSTED)


def test_a_pickle_whose_classes_are_nowhere(tmp_path: Path) -> None:
    content = pickle.dumps(LinearRegression().fit(X, Y), protocol=2).replace(
        b"sklearn.linear_model", b"private.linear_model"
    )
    (tmp_path / "private.pkl").write_bytes(content)
    with pytest.raises(TargetError, match=r"No module named 'private'.*PYTHONPATH"):
        answers(tmp_path / "private.pkl", {}, TRUSTED)


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


class Naming:
    """Another's class, which says nothing of itself and answers texts."""

    def predict(self, x: np.ndarray) -> list[str]:
        return [NAMES[int(value > 0)] for value in x[:, 0]]


def test_a_class_that_says_nothing_of_itself_may_answer_texts(serve: Serve, tmp_path: Path) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    (tmp_path / "naming.pkl").write_bytes(cloudpickle.dumps(Naming()))
    check_answers(
        serve,
        tmp_path / "naming.pkl",
        {"x": X},
        lambda arrays: {"prediction": NAMES[(arrays["x"][:, 0] > 0).astype(int)].astype(object)},
        arguments=["--trust", "naming"],
    )


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
    check_damage(serve, tmp_path / "model1.skops", "model1.skops is", "fetch the file again")


@pytest.mark.parametrize(("name", "content"), [("page.pkl", b"<!doctype html>"), ("empty.joblib", b"")])
def test_what_is_no_pickle_wants_no_trust(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TargetError, match="no scikit-learn model"):
        answers(tmp_path / name, {})
