"""PaddlePaddle: programs of Paddle 3, and of Paddle 2, which a process with another flag writes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from formats.compared import Arrays, answers, check_answers, refusal, same
from serving import Serve

FORMAT = "paddle"
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(180)]
X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
SCALES = np.random.default_rng(1).integers(1, 9, (8, 3)).astype(np.int64)


class Scaled(paddle.nn.Layer):
    """Two inputs, whose names are in no order, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = paddle.nn.Linear(4, 3)

    def forward(self, x: Any, scales: Any) -> Any:
        scores = self.linear(x) * paddle.cast(scales, "float32")
        return paddle.nn.functional.softmax(scores), paddle.cast(scores > 0, "int64")


def save(folder: Path, rows: int | None = None) -> Path:
    paddle.seed(0)
    model = Scaled()
    model.eval()
    wanted = [([rows, 4], "float32", "x"), ([rows, 3], "int64", "scales")]
    specs = [paddle.static.InputSpec(shape, dtype, name) for shape, dtype, name in wanted]
    paddle.jit.save(model, str(folder / "scaled"), input_spec=specs)
    return folder / "scaled.json"


def called(program: Path, arrays: Arrays) -> Arrays:
    config = paddle.inference.Config(str(program), str(program.with_suffix(".pdiparams")))
    config.disable_gpu()
    predictor = paddle.inference.create_predictor(config)
    for name, array in arrays.items():
        predictor.get_input_handle(name).copy_from_cpu(array)
    predictor.run()
    return {name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()}


def test_a_program_answers_as_it_does_itself(serve: Serve, tmp_path: Path) -> None:
    program = save(tmp_path)
    inputs = {"x": X, "scales": SCALES}
    served = check_answers(serve, program, inputs, lambda arrays: called(program, arrays), options="threads = 2")
    found = served.http.get("/v2/models/scaled").json()
    assert found["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "scales", "datatype": "INT64", "shape": [-1, 3]},
    ]
    assert found["outputs"] == [
        {"name": "fetch_name_0", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "fetch_name_1", "datatype": "INT64", "shape": [-1, 3]},
    ]


def test_a_program_of_paddle_2_a_folder_and_a_fixed_batch(serve: Serve, tmp_path: Path) -> None:
    older = tmp_path / "older"
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom formats.tf.test_paddle import *\nsave(Path({str(older)!r}))"
    script = tmp_path / "save.py"
    script.write_text(code)
    subprocess.run([sys.executable, str(script)], check=True, env={**os.environ, "FLAGS_enable_pir_api": "0"})
    save(tmp_path / "folder")
    single = save(tmp_path / "single", rows=1).rename(tmp_path / "single" / "one.json")
    single.with_name("scaled.pdiparams").rename(single.with_suffix(".pdiparams"))
    (tmp_path / "settings.toml").write_text("[models.folder]\nruntime_options = { onednn = false }\n")
    targets = (older / "scaled.pdmodel", tmp_path / "folder", single)
    served = serve(*map(str, targets), options=["--config", str(tmp_path / "settings.toml")], timeout_s=120.0)
    inputs = {"x": X, "scales": SCALES}
    first = list(called(older / "scaled.pdmodel", inputs).values())
    found = served.http.infer("scaled", inputs).arrays()
    same(dict(enumerate(found.values())), dict(enumerate(first)), 1e-5)
    same(served.http.infer("folder", inputs).arrays(), called(tmp_path / "folder" / "scaled.json", inputs), 1e-5)
    one = {name: array[:1] for name, array in inputs.items()}
    same(served.http.infer("one", one).arrays(), called(single, one), 1e-5)
    assert served.http.get("/v2/models/one").json()["inputs"][0]["shape"] == [1, 4]


class Doubled(paddle.nn.Layer):
    """No weights, for which Paddle 3 writes no file."""

    def forward(self, x: Any) -> Any:
        return x * 2


def test_a_program_without_weights_is_served(tmp_path: Path) -> None:
    specs = [paddle.static.InputSpec([None, 4], "float32", "x")]
    paddle.jit.save(Doubled(), str(tmp_path / "doubled"), input_spec=specs)
    same(answers(tmp_path / "doubled.json", {"x": X}), {"fetch_name_0": X * 2}, 1e-5)


def test_a_process_may_have_tensorflow_already(tmp_path: Path) -> None:
    program = save(tmp_path)
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\nfrom pathlib import Path\nimport numpy as np, tensorflow\n"
        "import samovar.runtimes.paddle_import\nfrom formats.compared import answers\n"
        "inputs = {'x': np.ones((2, 4), np.float32), 'scales': np.ones((2, 3), np.int64)}\n"
        f"print(answers(Path({str(program)!r}), inputs)['fetch_name_0'].sum().round(3), tensorflow.add(1, 2).numpy())"
    )
    script = tmp_path / "beside.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["2.0", "3"]


def cut_program(program: Path) -> None:
    program.write_text(program.read_text()[:1_500])


def noise(program: Path) -> None:
    program.write_bytes(bytes(range(256)) * 8)


def other_program(program: Path) -> None:
    program.write_text(json.dumps({"base_code": {"version": 99}, "program": {"regions": []}}))


def cut_weights(program: Path) -> None:
    weights = program.with_suffix(".pdiparams")
    weights.write_bytes(weights.read_bytes()[:-1])  # which Paddle itself does not see


def other_weights(program: Path) -> None:
    program.with_suffix(".pdiparams").write_bytes(bytes(range(256)) * 8)


def no_weights(program: Path) -> None:
    program.with_suffix(".pdiparams").unlink()


DAMAGES: dict[Callable[[Path], None], str] = {
    cut_program: "is no whole program",
    other_program: "is no whole program",
    cut_weights: "scaled.pdiparams is cut off",
    other_weights: "scaled.pdiparams is no file of Paddle's weights",
    no_weights: "scaled.pdiparams, which does not exist",
}


def test_damaged_files_hurt_no_neighbour(serve: Serve, tmp_path: Path) -> None:
    whole = save(tmp_path / "whole").parent
    programs = []
    for damage in DAMAGES:
        folder = shutil.copytree(whole, tmp_path / "damaged" / damage.__name__)
        damage(folder / "scaled.json")
        programs.append((folder / "scaled.json").rename(folder / f"{damage.__name__}.json"))
        if (folder / "scaled.pdiparams").exists():
            (folder / "scaled.pdiparams").rename(folder / f"{damage.__name__}.pdiparams")
    served = serve(*map(str, programs), "echo.py:EchoFp32", timeout_s=120.0)
    assert served.http.get("/v2/models/echo_fp32/ready").status == 200
    told = [str(line) for line in served.errors(len(DAMAGES))]
    for damage, words in DAMAGES.items():
        wanted = words.replace("scaled", damage.__name__)
        assert any(wanted in line for line in told), (wanted, "\n".join(told))
    noise(whole / "scaled.json")
    assert "has no format that is served" in refusal(serve, whole / "scaled.json")
