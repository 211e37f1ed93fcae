"""What user code may do wrong in a call: an exception, or an answer that does not fit."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from http_door import Answer
from serving import Serve, both_transports
from watching import eventually, keys_in, metric, pid_of, run, value, wait_begun

RAISES = -1
FAULTS = ("rows", "dims", "rank", "dtype", "none_returned", "object")


@both_transports
def test_an_exception_in_a_batch_costs_only_the_guilty_item(
    serve: Serve, background: ThreadPoolExecutor, runs: Path
) -> None:
    served = serve("mortal.py:Mortal")
    pid = pid_of(served, "mortal")
    blocker = background.submit(run, served.http, "mortal", 2, 1.0)
    wait_begun(runs, 2)
    keys = (10, 11, RAISES, 12, 13, 14, 15)
    answers = {key: background.submit(run, served.http, "mortal", key) for key in keys}
    eventually(lambda: metric(served, "samovar_queue_items", model="mortal") == len(keys), "all wait")
    assert value(blocker.result(), "double") == 4
    guilty = answers.pop(RAISES).result()
    assert (guilty.status, guilty.code()) == (500, "model_error")
    assert "a key that raises" in guilty.json()["error"]
    for key, answer in answers.items():
        assert (value(answer.result(), "double"), value(answer.result(), "pid")) == (2 * key, pid)


@both_transports
def test_an_exception_that_is_shared_answers_the_whole_batch_and_nothing_runs_again(
    serve: Serve, background: ThreadPoolExecutor, runs: Path
) -> None:
    served = serve("mortal.py:MortalShared")
    blocker = background.submit(run, served.http, "mortal_shared", 2, 1.0)
    wait_begun(runs, 2)
    keys = (10, 11, RAISES, 12)
    answers = [background.submit(run, served.http, "mortal_shared", key) for key in keys]
    eventually(lambda: metric(served, "samovar_queue_items", model="mortal_shared") == len(keys), "all wait")
    assert value(blocker.result(), "double") == 4
    assert {(answer.result().status, answer.result().code()) for answer in answers} == {(500, "model_error")}
    assert sorted(keys_in(runs)) == sorted((2, *keys)), "each ran once"
    assert metric(served, "samovar_batches_total", model="mortal_shared") == 2
    fitting = [background.submit(run, served.http, "mortal_shared", key) for key in (20, 21)]
    assert [value(answer.result(), "double") for answer in fitting] == [40, 42]


@pytest.mark.parametrize(("model", "header"), [("mortal", "false"), ("mortal_once", None)])
def test_what_may_not_run_twice_has_its_call_for_itself(
    serve: Serve, background: ThreadPoolExecutor, runs: Path, model: str, header: str | None
) -> None:
    served = serve("mortal.py:Mortal", "mortal.py:MortalOnce")
    headers = {} if header is None else {"samovar_idempotent": header}
    blocker = background.submit(run, served.http, model, 2, 1.0)
    wait_begun(runs, 2)
    answers = {key: background.submit(run, served.http, model, key, 0.0, **headers) for key in (10, RAISES, 11)}
    eventually(lambda: metric(served, "samovar_queue_items", model=model) == len(answers), "all wait")
    assert value(blocker.result(), "double") == 4
    assert answers.pop(RAISES).result().code() == "model_error"
    assert [value(answer.result(), "rows") for answer in answers.values()] == [1, 1]
    assert sorted(keys_in(runs)) == [RAISES, 2, 10, 11]


def test_an_exception_is_not_told_where_errors_are_hidden_but_logged_with_the_request(serve: Serve) -> None:
    served = serve("raising.py", options=["--expose-errors", "id"])
    answer = served.http.infer("raising", {"x": np.array([[-4.0]], np.float32)})
    assert (answer.status, answer.code()) == (500, "model_error")
    assert "negative" not in answer.json()["error"]
    request = answer.json()["id"]
    (line,) = eventually(lambda: [line for line in served.log() if "negative input" in str(line)], "the log has it")
    assert line["request_id"] == request
    assert (line["model"], line["version"]) == ("raising", "1")


def test_sys_exit_in_a_call_is_an_exception_and_no_death(serve: Serve) -> None:
    served = serve("dying.py")
    before = served.workers()
    answer = served.http.infer("dying", {"how": np.array([[4]], np.int32)})
    assert (answer.status, answer.code()) == (500, "model_error")
    assert set(before) <= set(served.workers())


@both_transports
def test_outputs_that_do_not_fit_are_the_models_fault_and_it_serves_on(serve: Serve) -> None:
    served = serve("wrong.py:Wrong")
    for fault in range(1, len(FAULTS) + 1):
        answer = served.http.infer("wrong", {"fault": np.array([[fault]], np.int32)})
        assert (answer.status, answer.code()) == (500, "bad_model_output"), FAULTS[fault - 1]
        assert '"wrong"' in answer.json()["error"]
    right = served.http.infer("wrong", {"fault": np.array([[0]], np.int32)}).arrays()["output"]
    np.testing.assert_array_equal(right, np.zeros((1, 2), np.float32))
    assert metric(served, "samovar_worker_restarts_total", model="wrong") == 0


def test_a_missing_output_is_the_models_fault(serve: Serve) -> None:
    served = serve("wrong.py:Miscounted")
    answer = served.http.infer("miscounted", {"x": np.zeros((1, 1), np.float32)})
    assert (answer.status, answer.code()) == (500, "bad_model_output")


@pytest.mark.parametrize("rows", [1, 3])
def test_a_request_with_several_rows_fails_as_one(serve: Serve, rows: int) -> None:
    served = serve("raising.py")
    x = np.ones((rows, 2), np.float32)
    x[-1, -1] = -1
    answer = served.http.infer("raising", {"x": x})
    assert (answer.status, answer.code()) == (500, "model_error")
    np.testing.assert_array_equal(served.http.infer("raising", {"x": abs(x)}).arrays()["output"], abs(x) * 2)


@both_transports
def test_a_model_may_say_that_the_client_is_at_fault(serve: Serve) -> None:
    served = serve("raising.py", options=["--expose-errors", "id"])  # meant for the client: told all the same
    answer = served.http.infer("raising", {"x": np.array([[2_000]], np.float32)})
    assert (answer.status, answer.code()) == (400, "invalid_input")
    assert answer.json()["error"] == 'model "raising": 2000 is too large; send at most 1000'
    refused = served.grpc.infer("raising", {"x": np.array([[2_000]], np.float32)})
    assert refused.code() == "invalid_input"


def test_a_model_that_wants_more_memory_than_it_may_have_is_refused_it_and_serves_on(serve: Serve) -> None:
    served = serve("hungry.py:Hungry", "mortal.py:Mortal")

    def take(mib: int) -> Answer:
        return served.http.infer("hungry", {"mib": np.array([[mib]], np.int64)})

    pid = value(take(16), "output")
    greedy = take(8 << 10)
    assert (greedy.status, greedy.code()) == (500, "model_error")
    assert "MemoryError" in greedy.json()["error"]
    assert value(take(16), "output") == pid
    assert value(run(served.http, "mortal", 1), "double") == 2


def test_a_limit_of_memory_below_what_libraries_take_fails_the_load_with_the_reason(serve: Serve) -> None:
    served = serve("hungry.py:Starved", "mortal.py:Mortal")
    cause = served.model("starved")["cause"]
    assert cause["exception"] == "MemoryError"
    assert cause["message"].startswith("max_memory_bytes is 1048576, but the worker's libraries alone take ")
