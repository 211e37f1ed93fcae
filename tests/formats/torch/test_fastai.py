"""fastai: learners of tables and images, where they are trusted."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from formats.compared import Arrays, check_answers, check_damage, refusal
from samovar.config.declared import read_declared
from samovar.errors import TargetError, UnsafeFormatError
from samovar.runtimes import Question, runtime_for
from samovar.runtimes.fastai import inspect, load
from serving import Serve

FORMAT = "fastai"
# Each worker imports torch anew: 2 s, 9 s with what stands on it, and far more where others use the processors too.
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
CHANCE = np.random.default_rng(0)
ROWS = 40
CITIES = np.array(["here", "there"])
TABLE = {"city": CITIES[CHANCE.integers(0, 2, ROWS)], "age": CHANCE.normal(size=ROWS), "fare": CHANCE.normal(size=ROWS)}


def tabular(path: Path, *, labels: bool) -> Any:
    from fastai.tabular.all import (
        Categorify,
        CategoryBlock,
        FillMissing,
        Normalize,
        RegressionBlock,
        TabularDataLoaders,
        tabular_learner,
    )

    target = np.array(["no", "yes"] * (ROWS // 2)) if labels else CHANCE.normal(size=ROWS).astype(np.float32)
    frame = pd.DataFrame({**TABLE, "y": target})
    frame.loc[3, "age"] = np.nan  # so that FillMissing adds a column of its own
    loaders = TabularDataLoaders.from_df(
        frame,
        procs=[Categorify, FillMissing, Normalize],
        cat_names=["city"],
        cont_names=["age", "fare"],
        y_names="y",
        y_block=CategoryBlock() if labels else RegressionBlock(),
        valid_idx=list(range(ROWS // 2, ROWS)),  # not by chance: what is missing must be missing in the training
        bs=8,
    )
    learner = tabular_learner(loaders, layers=[8])
    learner.export(path)
    return learner


def own(path: Path, items: Any) -> np.ndarray:
    """What fastai itself predicts."""
    from fastai.learner import load_learner

    learner = load_learner(path)
    with learner.no_bar():
        return learner.get_preds(dl=learner.dls.test_dl(items, num_workers=0))[0].numpy()


def columns(count: int) -> dict[str, np.ndarray]:
    return {
        "city": np.array([city.encode() for city in TABLE["city"][:count]], object),
        "age": TABLE["age"][:count],
        "fare": TABLE["fare"][:count],
    }


def framed(arrays: Arrays) -> pd.DataFrame:
    return pd.DataFrame({**arrays, "city": [city.decode() for city in arrays["city"]]})


def test_a_classifier_of_tables_answers_as_fastai_does(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "people.pkl"
    tabular(path, labels=True)

    def expected(arrays: Arrays) -> Arrays:
        found = own(path, framed(arrays))
        return {"label": np.array([b"no", b"yes"], object)[found.argmax(1)], "probabilities": found}

    served = check_answers(serve, path, columns(8), expected, arguments=["--trust", "people"])
    model = served.http.get("/v2/models/people").json()
    assert [(one["name"], one["datatype"]) for one in model["inputs"]] == [
        ("city", "BYTES"),
        ("age", "FP64"),
        ("fare", "FP64"),
    ]
    assert "trusted" in served.output()


def trusted(path: Path) -> dict[str, Any]:
    return inspect(Question(path, declared=read_declared({"trust": True}, "of the test")))[0]


def test_a_regressor_of_tables_has_predictions(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "fares.pkl"
    tabular(path, labels=False)
    check_answers(
        serve,
        path,
        columns(8),
        lambda arrays: {"prediction": own(path, framed(arrays))},
        arguments=["--trust", "fares"],
    )


def test_a_learner_of_images_takes_pixels(serve: Serve, tmp_path: Path) -> None:
    from fastai.vision.all import CrossEntropyLossFlat, ImageDataLoaders, Learner, Resize
    from PIL import Image

    files = []
    for number in range(8):
        files.append(tmp_path / f"{('cat', 'dog')[number % 2]}_{number}.png")
        Image.fromarray(CHANCE.integers(0, 255, (40, 48, 3), np.uint8)).save(files[-1])
    loaders = ImageDataLoaders.from_name_re(
        tmp_path, files, pat=r"^(.*)_\d+.png$", item_tfms=Resize(32), bs=4, num_workers=0
    )
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    path = tmp_path / "pets.pkl"
    Learner(loaders, torch.nn.Sequential(*layers), loss_func=CrossEntropyLossFlat()).export(path)

    def expected(arrays: Arrays) -> Arrays:
        found = own(path, list(arrays["image"]))
        return {"label": np.array([b"cat", b"dog"], object)[found.argmax(1)], "probabilities": found}

    images = CHANCE.integers(0, 255, (5, 36, 50, 3), np.uint8)
    check_answers(serve, path, {"image": images}, expected, arguments=["--trust", "pets"])
    assert trusted(path)["source"]["labels"] == {"probabilities": ["cat", "dog"]}


def found(path: Path, inputs: Arrays) -> np.ndarray:
    """The last output of the file in this process."""
    described = trusted(path)
    model = load({**described, "options": {"threads": 1, "concurrency": 1}})
    return np.asarray(model.predict(list(inputs.values()))[-1])


def test_a_classifier_of_texts_takes_texts(tmp_path: Path) -> None:
    from fastai.text.all import AWD_LSTM, TextDataLoaders, text_classifier_learner

    frame = pd.DataFrame({"text": ["good tea here", "bad tea there"] * 10, "label": ["pos", "neg"] * 10})
    loaders = TextDataLoaders.from_df(frame, path=tmp_path, text_col="text", label_col="label", bs=4)
    path = tmp_path / "mood.pkl"
    text_classifier_learner(loaders, AWD_LSTM, pretrained=False).export(path)
    plain = ["bad tea", "good tea here and there and here", "tea", "here", "a good tea"]
    wanted = np.concatenate([own(path, [text]) for text in plain])
    inputs = {"text": np.array([text.encode() for text in plain], object)}
    np.testing.assert_allclose(found(path, inputs), wanted, atol=1e-5)
    described = trusted(path)
    assert [one["name"] for one in described["outputs"]] == ["label", "probabilities"]
    assert described["source"]["labels"] == {"probabilities": ["neg", "pos"]}


def mask_of(path: Path) -> Path:
    return path.with_suffix(".mask.png")


def test_a_segmentation_has_probabilities_for_each_point(tmp_path: Path) -> None:
    from fastai.vision.all import CrossEntropyLossFlat, Learner, SegmentationDataLoaders
    from PIL import Image

    files = [tmp_path / f"{number}.jpg" for number in range(4)]
    for file in files:
        Image.fromarray(CHANCE.integers(0, 255, (16, 16, 3), np.uint8)).save(file)
        Image.fromarray(CHANCE.integers(0, 2, (16, 16), np.uint8)).save(mask_of(file))
    loaders = SegmentationDataLoaders.from_label_func(
        tmp_path, files, mask_of, codes=["ground", "tea"], bs=2, valid_pct=0.5, num_workers=0
    )
    path = tmp_path / "fields.pkl"
    Learner(loaders, torch.nn.Conv2d(3, 2, 1), loss_func=CrossEntropyLossFlat(axis=1)).export(path)
    images = CHANCE.integers(0, 255, (3, 16, 16, 3), np.uint8)
    np.testing.assert_allclose(found(path, {"image": images}), own(path, list(images)), atol=1e-5)
    assert trusted(path)["outputs"] == [{"name": "probabilities", "datatype": "FP32", "dims": [-1, -1, -1]}]


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_learner_is_not_loaded_unless_it_is_trusted(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "bad.pkl"
    torch.save({"fastai.learner": Malicious(tmp_path / "ran")}, path)
    assert runtime_for(path).ABOUT.title == "fastai learners"
    told = refusal(serve, path)
    assert "unsafe_format" in told
    assert "--trust bad" in told
    with pytest.raises(UnsafeFormatError):
        inspect(Question(path))
    assert not (tmp_path / "ran").exists()


def test_what_is_no_learner_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.pkl"
    torch.save({"fastai.learner": 1}, path)
    with pytest.raises(TargetError, match=r"other\.pkl holds dict, no learner|other\.pkl cannot be loaded"):
        trusted(path)


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    tabular(tmp_path / "model1.pkl", labels=True)
    check_damage(serve, tmp_path / "model1.pkl")
    assert runtime_for(tmp_path / "cut" / "model1.pkl").ABOUT.title == "fastai learners"
    with pytest.raises(TargetError, match=r"model1\.pkl is no learner of fastai, or cut off"):
        trusted(tmp_path / "cut" / "model1.pkl")
