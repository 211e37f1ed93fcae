"""Services and models that call models: what goes through, what comes back, and whose error it is."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import models
from h2_wire import H2Wire
from lifecycle.pipelines import DIES, INVALID, RAISES, WAITS, Pipeline
from serving import Serve, both_transports
from watching import metric


@both_transports
def test_rows_pass_through_models_in_order(pipeline: Pipeline) -> None:
    assert pipeline.ask("both", 1, 2).json() == [3, 4]
    assert pipeline.ask("both_sync", 1, 2).json() == [3, 4]
    assert pipeline.ask("waiting", 1, 2).json() == [3, 4]
    assert pipeline.ask("chain", 1, 2).json() == [3, 4]
    assert pipeline.ask("chain", 1, 2, is_async=True).json() == [4, 5]
    between = ["first", "between", "second"]
    assert pipeline.steps() == [
        *between,
        *between,
        "patient",
        "second",
        "first",
        "second",
        "first",
        "second",
        "patient",
    ]
    assert pipeline.served.http.post("/pipeline/gathered", {"count": 300}).json() == list(range(1, 301))
    batches = metric(pipeline.served, "samovar_batches_total", model="first")
    assert batches < metric(pipeline.served, "samovar_items_total", model="first"), "steps share batches"


@both_transports
def test_large_tensors_pass_from_model_to_model(pipeline: Pipeline) -> None:
    for mebibytes in (1, 48, 62):
        answer = pipeline.served.http.post("/pipeline/large", {"mebibytes": mebibytes})
        assert answer.json() == [2, 2, mebibytes << 18]


@both_transports
def test_models_of_models_and_methods_of_tensors_have_doors_of_their_own(pipeline: Pipeline) -> None:
    x, note = np.ones((2, 3), np.float32), np.array([b""] * 2, object)
    for model, more in (("first", 1), ("chained", 2), ("async_chained", 3)):
        inputs = {"x": x, "note": note}
        np.testing.assert_array_equal(pipeline.served.http.infer(model, inputs).arrays()["output"], x + more)
        np.testing.assert_array_equal(pipeline.served.grpc.infer(model, inputs).arrays()["output"], x + more)
    method = pipeline.served.http.infer_binary("pipeline.tensors", {"x": x})
    np.testing.assert_array_equal(method.arrays()["output"], x + 1)


@both_transports
@pytest.mark.parametrize(
    ("value", "status", "code", "text"),
    [
        (INVALID, 400, "invalid_input", "the row is bad"),
        (RAISES, 500, "model_error", "ValueError: the row is too hard"),
        (DIES, 500, "poison_item", "died each time"),
    ],
)
def test_an_error_of_a_model_names_its_step_and_keeps_its_code(
    pipeline: Pipeline, value: float, status: int, code: str, text: str
) -> None:
    for method in ("both", "both_sync"):
        answer = pipeline.ask(method, value)
        assert (answer.status, answer.code()) == (status, code)
        assert answer.json()["error"].startswith("step first.predict: ")
        assert text in answer.json()["error"]
    answer = pipeline.ask("chain", value, is_async=True)
    assert (answer.status, answer.code()) == (status, code)
    error = answer.json()["error"]
    assert error.index("async_chained.predict") < error.index("step chained.predict") < error.index("first.predict")
    assert "second" not in pipeline.steps()
    assert pipeline.served.http.post("/pipeline/careful", {"x": [value]}).json() == f"first {code}"
    note = np.array([b""], object)
    reply = pipeline.served.grpc.infer("chained", {"x": np.array([[value]], np.float32), "note": note})
    assert reply.code() == code
    reply = pipeline.served.grpc.infer("pipeline.tensors", {"x": np.array([[value]], np.float32)})
    assert reply.code() == code


def test_an_argument_that_does_not_fit_is_told_where_it_is_made(pipeline: Pipeline) -> None:
    answer = pipeline.served.http.post("/pipeline/misfit", {})
    assert (answer.status, answer.code()) == (500, "model_error")
    for word in ("Pipeline.misfit", "step first.predict", '"x"', "float64", "astype"):
        assert word in answer.json()["error"]


@both_transports
def test_what_is_done_after_an_answer_may_call_models_too(pipeline: Pipeline) -> None:
    assert pipeline.ask("afterwards", 1).body == b"answered"
    pipeline.wait("stepped")
    assert pipeline.steps() == ["first", "stepped"]


OTHERS = """
import numpy as np
import samovar

@samovar.service
class Calling:
    net = samovar.use("net.onnx")
    older = samovar.use("folder/other", version="1")
    newest = samovar.use("folder/other")
    giving = samovar.use("giving.give")

    @samovar.api
    async def call(self, x: list[float]) -> list[list[float]]:
        row = np.array([x], np.float32)
        found = [await handle.predict(row) for handle in (self.net, self.older, self.newest)]
        return [one[0].tolist() for one in found] + [(await self.giving.predict(x[:1])).tolist()]

@samovar.service
class Giving:
    @samovar.api
    async def give(self, number: float) -> float:
        return number * 5
"""


def test_files_versions_and_methods_of_other_services_are_called(serve: Serve, tmp_path: Path) -> None:
    models.scale(tmp_path / "net.onnx", 2.0)
    for version, factor in (("1", 3.0), ("2", 4.0)):
        models.scale(tmp_path / "folder" / "other" / version / "model.onnx", factor)
    (tmp_path / "calling.py").write_text(OTHERS)
    served = serve(str(tmp_path / "calling.py"))
    answer = served.http.post("/calling/call", {"x": [1, 2, 3]})
    assert answer.status == 200, answer.body
    assert answer.json() == [[2, 4, 6], [3, 6, 9], [4, 8, 12], [5]]
    assert served.http.post("/giving/give", {"number": 1}).json() == 5


@both_transports
def test_a_bad_row_of_one_request_costs_another_nothing(pipeline: Pipeline, background: ThreadPoolExecutor) -> None:
    values = [1.0, INVALID, 2.0, RAISES, 3.0] * 6
    answers = list(background.map(lambda value: pipeline.another().ask("both", value), values))
    wanted = {INVALID: 400, RAISES: 500}
    assert [answer.status for answer in answers] == [wanted.get(value, 200) for value in values]
    sums = [answer.json() for answer in answers if answer.status == 200]
    assert sums == [[value + 2] for value in values if value > 0]


@pytest.mark.parametrize("method", ["both", "both_sync", "chain"])
def test_a_thousand_requests_at_once_are_all_answered_through_one_instance_of_each(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor, method: str
) -> None:
    served = serve("composed.py", options=["--max-requests", "1001"])
    gate = Pipeline.of(served, tmp_path)
    first = background.submit(gate.ask, method, WAITS)
    gate.wait("first")  # the one instance is held until all have come
    with ExitStack() as opened:
        wires = [opened.enter_context(H2Wire(served.port)) for _ in range(8)]
        sent = [(wires[number % 8], number) for number in range(1_000)]
        streams = [begin(wire, f"/pipeline/{method}", number) for wire, number in sent]
        gate.go()
        assert first.result().json() == [WAITS + 2]
        for (wire, number), stream in zip(sent, streams, strict=True):
            headers, body = wire.answer(stream)
            assert (headers[":status"], body) == ("200", b"[%d.0]" % (number + 2))
    assert metric(served, "samovar_rejected_total") == 0
    gate.wait_idle()


def begin(wire: H2Wire, path: str, number: int) -> int:
    """A request whose row is a number; its stream."""
    stream = wire.open("POST", path, {"content-type": "application/json"})
    wire.h2.send_data(stream, b'{"x": [%d]}' % number, end_stream=True)
    wire.flush()
    return stream


def test_steps_are_counted_for_the_model_under_a_door_of_their_own(serve: Serve, tmp_path: Path) -> None:
    pipeline = Pipeline.of(serve("composed.py"), tmp_path)
    for value in (1, 1, INVALID):
        pipeline.ask("both", value)
    served = pipeline.served
    count = {
        (model, code): metric(served, "samovar_requests_total", model=model, door="step", code=code)
        for model in ("first", "second")
        for code in ("ok", "invalid_input")
    }
    assert count == {
        ("first", "ok"): 2,
        ("first", "invalid_input"): 1,
        ("second", "ok"): 2,
        ("second", "invalid_input"): 0,
    }
    assert metric(served, "samovar_requests_total", model="pipeline", door="http") == 3
