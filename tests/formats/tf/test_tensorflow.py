"""TensorFlow: SavedModel folders with one signature or several, text, fixed batches, damage."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from formats.compared import Arrays, check_answers, refusal
from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError
from samovar.runtimes import Question
from samovar.runtimes.tensorflow import inspect
from serving import Serve

FORMAT = "tensorflow"
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.timeout(180)]
X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
TEXT = np.array([f"word {index}".encode() for index in range(8)], object)


class Module(tf.Module):
    """Two methods, one with text."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.random.stateless_normal((4, 2), seed=(1, 2)))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x"), tf.TensorSpec([None], tf.string, "text")])
    def both(self, x: tf.Tensor, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x @ self.weights, "upper": tf.strings.upper(text)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
    def total(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"total": tf.reduce_sum(x @ self.weights, 1)}

    @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, "x")])
    def single(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x @ self.weights}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "words"
    module = Module()
    signatures = {"serving_default": module.both, "total": module.total, "single": module.single}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


@pytest.fixture
def words(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "words")


def called(folder: Path, name: str, arrays: Arrays) -> Arrays:
    loaded = tf.saved_model.load(str(folder))
    found = loaded.signatures[name](**{key: tf.constant(array) for key, array in arrays.items()})
    return {key: tensor.numpy() for key, tensor in found.items()}


def test_the_default_signature_answers_with_text_too(serve: Serve, words: Path) -> None:
    served = check_answers(
        serve, words, {"x": X, "text": TEXT}, lambda arrays: called(words, "serving_default", arrays)
    )
    assert served.http.get("/v2/models/words").json()["inputs"] == [
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
    ]


def test_another_signature_and_compilation_are_options(serve: Serve, words: Path) -> None:
    check_answers(
        serve,
        words,
        {"x": X},
        lambda arrays: called(words, "total", arrays),
        options='runtime_options = { signature = "total", jit_compile = true }\nthreads = 2',
    )


def test_text_is_not_compiled(saved: Path) -> None:
    declared = Declared(runtime_options={"jit_compile": True})
    with pytest.raises(ConfigError, match=r'"jit_compile" of words is true, but "text" is text, .*; leave it out$'):
        inspect(Question(saved, declared=declared))


def test_an_unknown_signature_is_told_with_those_there_are(serve: Serve, words: Path) -> None:
    (words.parent / "settings.toml").write_text('[models.words]\nruntime_options = { signature = "totl" }\n')
    told = refusal(serve, words, "--config", str(words.parent / "settings.toml"))
    assert 'no signature "totl"' in told
    assert "serving_default, single, total" in told


def test_a_fixed_batch_is_served_row_by_row(serve: Serve, words: Path) -> None:
    served = check_answers(
        serve,
        words,
        {"x": X[:1]},
        lambda arrays: called(words, "single", arrays),
        options='runtime_options = { signature = "single" }',
        has_batches=False,
    )
    source = served.http.get("/v2/models/words").json()
    assert source["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [1, 4]}]


def test_the_layouts_of_repositories_of_triton_and_tensorflow_serving(
    serve: Serve, words: Path, tmp_path: Path
) -> None:
    shutil.copytree(words, tmp_path / "models" / "triton" / "1" / "model.savedmodel")
    shutil.copytree(words, tmp_path / "models" / "tfserving" / "3")
    served = serve(str(tmp_path / "models"), timeout_s=120.0)
    wanted = called(words, "serving_default", {"x": X, "text": TEXT})
    for name in ("triton", "tfserving"):
        found = served.http.infer(name, {"x": X, "text": TEXT}).arrays()
        np.testing.assert_allclose(found["y"], wanted["y"], rtol=1e-5)


def test_a_folder_without_signatures_says_how_to_save_one(serve: Serve, tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    told = refusal(serve, tmp_path / "empty")
    assert "empty has no signatures" in told
    assert "model.export" in told


class Ragged(tf.Module):
    """What has rows of different lengths on either side."""

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.float32)])
    def taken(self, x: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        return {"y": x.to_tensor()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def given(self, text: tf.Tensor) -> dict[str, tf.RaggedTensor]:
        return {"y": tf.strings.split(text)}


@pytest.mark.parametrize(("name", "place"), [("taken", 'input "x"'), ("given", 'output "y"')])
def test_ragged_tensors_are_refused(tmp_path: Path, name: str, place: str) -> None:
    module = Ragged()
    tf.saved_model.save(module, str(tmp_path / name), signatures=getattr(module, name))
    with pytest.raises(TargetError, match=f"^{place} of {name} is ragged.*; take and return dense ones"):
        inspect(Question(tmp_path / name))


def test_an_output_with_other_rows_names_the_cure(serve: Serve, tmp_path: Path) -> None:
    function = tf.function(
        lambda x: {"y": tf.reshape(x, [-1, 2])}, input_signature=[tf.TensorSpec([None, 4], name="x")]
    )
    module = tf.Module()
    module.call = function
    tf.saved_model.save(module, str(tmp_path / "pairs"), signatures=function)
    served = serve(str(tmp_path / "pairs"), timeout_s=120.0)
    answer = served.http.infer("pairs", {"x": X[:2]})
    assert answer.code() == "bad_model_output"
    assert 'output "y" has the shape [4, 2] for 2 rows' in answer.json()["error"]
    assert "batch_axis = false" in answer.json()["error"]
    (tmp_path / "settings.toml").write_text("[models.pairs]\nbatch_axis = false\n")
    again = serve(str(tmp_path / "pairs"), options=["--config", str(tmp_path / "settings.toml")], timeout_s=120.0)
    assert again.http.infer("pairs", {"x": X[:2]}).arrays()["y"].shape == (4, 2)


def cut_graph(folder: Path) -> None:
    content = (folder / "saved_model.pb").read_bytes()
    (folder / "saved_model.pb").write_bytes(content[: len(content) // 2])


def noise(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(bytes(range(256)) * 8)


def cut_variables(folder: Path) -> None:
    for file in (folder / "variables").glob("variables.*"):
        file.write_bytes(file.read_bytes()[:10])


def no_variables(folder: Path) -> None:
    shutil.rmtree(folder / "variables")


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (cut_graph, "is cut off"),
        (noise, "is no SavedModel"),
        (cut_variables, "cannot load"),
        (no_variables, "cannot load"),
    ],
)
def test_damaged_folders_hurt_no_neighbour(serve: Serve, words: Path, damage: object, word: str) -> None:
    damage(words)
    served = serve(str(words), "echo.py:EchoFp32", timeout_s=120.0)
    assert served.http.get("/v2/models/echo_fp32/ready").status == 200
    (told,) = served.errors(1)
    assert word in str(told)
