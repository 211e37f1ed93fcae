"""A file that PyTorch exported, served by one command and called by the lines that the start prints.

`apps/iris.onnx` is `torch.onnx.export` of a network with random weights: probabilities of three classes for rows of
four features.
"""

import json
import shlex

import numpy as np

import samovar
from commands import run
from serving import APPS, Serve

FEATURES = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)
PROBABILITIES = np.array([[0.1627, 0.3975, 0.4398], [0.2420, 0.4059, 0.3521]])  # what PyTorch said
DIGITS = 4


def test_it_answers_as_where_it_came_from(serve: Serve) -> None:
    served = serve("iris.onnx")
    for answer in (
        served.http.infer("iris", {"features": FEATURES}),
        served.http.infer_binary("iris", {"features": FEATURES}),
    ):
        np.testing.assert_array_almost_equal(answer.arrays()["probabilities"], PROBABILITIES, DIGITS)
    with samovar.load(APPS / "iris.onnx") as model:
        np.testing.assert_array_almost_equal(model.predict(FEATURES), PROBABILITIES, DIGITS)


def test_the_lines_that_the_start_prints_call_it(serve: Serve) -> None:
    served = serve("iris.onnx")
    words = [shlex.split(line) for line in served.stdout_path.read_text().splitlines()]
    (curl,) = (line for line in words if line[:1] == ["curl"])
    (infer,) = (line for line in words if line[:2] == ["samovar", "infer"])
    assert curl[1] == f"http://127.0.0.1:{served.port}/v2/models/iris/infer"
    answer = served.http.post("/v2/models/iris/infer", json.loads(curl[-1]))
    assert answer.arrays()["probabilities"].shape == (1, 3)
    ran = run(*infer[1:], "--url", f"http://127.0.0.1:{served.port}", "--json")
    assert (ran.code, ran.err) == (0, "")
    (output,) = json.loads(ran.out)["outputs"]
    np.testing.assert_allclose(output["data"], answer.arrays()["probabilities"], rtol=1e-6)
