"""What samovar.toml may say to onnxruntime: levels, modes, providers, and a file for the optimised graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from samovar.config.declared import read_declared
from samovar.errors import ConfigError, LoadError
from samovar.runtimes import Question
from samovar.runtimes.onnx import OnnxModel, inspect, load


def described(path: Path, **options: Any) -> dict[str, Any]:
    declared = read_declared({"runtime_options": options}, "in samovar.toml")
    (description,) = inspect(Question(path, declared=declared))
    return description


def loaded(description: dict[str, Any], threads: int = 1) -> OnnxModel:
    return load({**description, "options": {"threads": threads, "concurrency": 1}})


def answers(description: dict[str, Any], *inputs: Any) -> list[Any]:
    return list(loaded(description).predict(list(inputs)))


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("level", ["all", "extended", "basic", "disabled"])
def test_levels_and_modes_give_the_same_answers(tmp_path: Path, level: str, mode: str) -> None:
    path = models.sums(tmp_path / "sums.onnx")
    found = described(path, optimization=level, execution_mode=mode)
    one = np.ones((2, 3), np.float32)
    assert [output.tolist() for output in answers(found, one, one)] == [(one + one).tolist(), (one - one).tolist()]


def test_options_reach_the_session(tmp_path: Path) -> None:
    import onnxruntime as ort

    path = models.scale(tmp_path / "m.onnx")
    options = {"optimization": "basic", "execution_mode": "parallel", "providers": ["CPUExecutionProvider"]}
    found = described(path, **options)
    settings = loaded(found, threads=3)._session.get_session_options()
    assert settings.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert settings.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (1, 3)
    settings = loaded(described(path), threads=3)._session.get_session_options()
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (3, 1)


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"optimize": 1}, 'unknown runtime option "optimize" of m.onnx; its runtime has optimization, save_opt'),
    "level": (
        {"optimization": "most"},
        "runtime option \"optimization\" of m.onnx is 'most'; it wants one of all, extended, basic, disabled",
    ),
    "provider": (
        {"providers": ["NopeExecutionProvider"]},
        r"runtime option \"providers\" of m.onnx has 'NopeExecutionProvider'; onnxruntime [\d.]+ here has .*CPUExec",
    ),
    "no provider": ({"providers": []}, 'runtime option "providers" of m.onnx has none; onnxruntime'),
    "no name": ({"providers": [1]}, 'runtime option "providers" of m.onnx has 1; onnxruntime'),
    "no list": ({"providers": "CPU"}, "runtime option \"providers\" of m.onnx is 'CPU'; it wants a list"),
    "itself": ({"save_optimized": "m.onnx"}, ".* is 'm.onnx', a file that is there and was not saved by this option"),
    "model": ({"save_optimized": "model.fast.onnx"}, ".* is 'model.fast.onnx', a name that model files have; name it"),
    "nowhere": ({"save_optimized": "no/fast.onnx"}, ".* but .*/no cannot be written to; name a file in a folder"),
    "nothing": (
        {"save_optimized": "fast.onnx", "optimization": "disabled"},
        ".* but optimization is disabled; leave one",
    ),
}


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_options_that_cannot_be_are_told(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        described(models.scale(tmp_path / "m.onnx"), **options)


def test_a_provider_that_falls_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    found = described(models.scale(tmp_path / "m.onnx"), providers=["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", without_cuda(ort.InferenceSession))
    with pytest.raises(LoadError, match=r"^onnxruntime cannot run m.onnx by CUDAExecutionProvider, whose libraries"):
        answers(found)


def without_cuda(session: Any) -> Any:
    """As onnxruntime with CUDA behaves on a machine without."""
    return lambda path, settings, providers: session(path, settings, providers=["CPUExecutionProvider"])


def test_what_was_optimised_is_saved_and_taken_again(tmp_path: Path) -> None:
    path = models.scale(tmp_path / "m.onnx")
    x = np.ones((2, 3), np.float32)
    saved = tmp_path / "fast.onnx"
    found = described(path, save_optimized="fast.onnx")
    assert not saved.exists()
    assert answers(found, x)[0].tolist() == (2 * x).tolist()
    first = saved.stat()
    assert answers(found, x)[0].tolist() == (2 * x).tolist()
    assert saved.stat().st_mtime_ns == first.st_mtime_ns
    described(path, save_optimized="fast.onnx")  # a file of this option may be written again
    models.scale(path, 3.0)
    assert answers(found, x)[0].tolist() == (3 * x).tolist()
    assert answers(described(saved), x)[0].tolist() == (3 * x).tolist()  # it is a model like others
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fast.onnx", "m.onnx"]


def test_a_saved_graph_follows_weights_in_a_file_beside_it(tmp_path: Path) -> None:
    path = models.large(tmp_path / "large.onnx")
    weights = path.with_suffix(".weights")
    x = np.zeros((1, 4_000), np.float32)
    found = described(path, save_optimized="fast.onnx")
    assert answers(found, x)[0][0, -1] == 3_999
    mark = (tmp_path / "fast.onnx").read_bytes()[-64:]
    (np.fromfile(weights, np.float32) + 1).tofile(weights)
    assert answers(found, x)[0][0, -1] == 4_000
    assert (tmp_path / "fast.onnx").read_bytes()[-64:] != mark
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="weights of the model are in files beside it; name a file beside it too"):
        described(path, save_optimized="other/fast.onnx")


def test_a_saved_graph_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = models.scale(tmp_path / "m.onnx")
    (tmp_path / "gone").mkdir()
    found = described(path, save_optimized="gone/fast.onnx")
    (tmp_path / "gone").rmdir()
    with pytest.raises(LoadError, match=r"^the optimised m.onnx cannot be saved as .*/gone/fast.onnx: .*; leave save_"):
        answers(found)


def anonymous_mib() -> float:
    """Memory of this process that is in no file, and so its own alone."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def test_weights_in_a_file_of_their_own_are_shared_where_that_is_wanted(tmp_path: Path) -> None:
    width = 2_048
    path = models.write(
        tmp_path / "wide.onnx",
        [models.node("MatMul", ["x", "weights"], ["output"])],
        [("x", "FLOAT", ("batch", width))],
        [("output", "FLOAT", ("batch", 2 * width))],
        {"weights": np.ones((width, 2 * width), np.float32)},  # 32 MiB
        save_as_external_data=True,
        location="wide.weights",
    )
    rows = np.ones((3, width), np.float32)
    kept, grown = [], []
    for is_shared in (True, False):
        before = anonymous_mib()
        kept.append(loaded(described(path, share_weights=is_shared)))
        (output,) = kept[-1].predict([rows])
        assert (output == width).all()
        grown.append(anonymous_mib() - before)
    assert grown[0] < 16, "mapped"
    assert grown[1] > 24, "arranged anew"
