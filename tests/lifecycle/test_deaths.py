"""What a worker's death costs: a restart, and nobody's answer."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lifecycle.load import Load, is_right
from serving import Serve, both_transports
from watching import entry, eventually, keys_in, load, metric, pid_of, run, value, wait_begun

DIES = -2


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("transport", "seconds"), [("shm", 30.0), ("inline", 6.0)])
def test_kills_every_two_seconds_cost_no_idempotent_answer_and_run_nothing_twice_that_must_not(
    serve: Serve, runs: Path, seconds: float
) -> None:
    served = serve("mortal.py:Mortal", "mortal.py:MortalOnce")
    killed = {"mortal": 0, "mortal_once": 0}
    end = time.monotonic() + seconds
    with Load(served.http, "mortal") as again, Load(served.http, "mortal_once") as once:
        while time.monotonic() < end:
            for model in killed:
                os.kill(pid_of(served, model), signal.SIGKILL)
                killed[model] += 1
                time.sleep(1.0)  # the period of the attack: each worker dies every two seconds
    assert min(killed.values()) >= seconds / 2 * 0.8
    assert len(again.sent) > 100
    assert again.wrong() == []
    lost = once.wrong()
    assert {sent.answer and (sent.answer.status, sent.answer.code()) for sent in lost} == {(503, "worker_lost")}
    assert 0 < len(lost) < len(once.sent) / 2


@both_transports
def test_a_request_that_may_not_run_twice_runs_at_most_once(serve: Serve, runs: Path) -> None:
    served = serve("mortal.py:MortalOnce")
    with Load(served.http, "mortal_once", clients=4, seconds=0.02) as clients:
        for _ in range(4):
            count = len(clients.sent)
            eventually(lambda: len(clients.sent) > count + 8, "answers")  # noqa: B023 - called at once
            os.kill(served.workers()[0], signal.SIGKILL)
            os.kill(pid_of(served, "mortal_once"), signal.SIGKILL)
    ran = [key for key in keys_in(runs) if key != 1]  # which also asks for the process id
    assert len(ran) == len(set(ran))
    assert {sent.key for sent in clients.sent if is_right(sent) and sent.key != 1} <= set(ran)


@pytest.mark.parametrize(
    ("model", "header", "outcome", "times"),
    [
        ("mortal", None, 200, 2),
        ("mortal", "false", 503, 1),
        ("mortal_once", None, 503, 1),
        ("mortal_once", "true", 200, 2),
    ],
)
def test_the_header_decides_whether_a_request_may_run_twice(
    serve: Serve, runs: Path, background: ThreadPoolExecutor, model: str, header: str | None, outcome: int, times: int
) -> None:
    served = serve("mortal.py:Mortal", "mortal.py:MortalOnce")
    pid = pid_of(served, model)
    headers = {} if header is None else {"samovar_idempotent": header}
    waiting = background.submit(run, served.http, model, 7, 0.5, **headers)
    wait_begun(runs, 7)
    os.kill(pid, signal.SIGKILL)
    answer = waiting.result()
    assert answer.status == outcome
    assert keys_in(runs).count(7) == times
    if outcome == 503:
        assert answer.code() == "worker_lost"
    else:
        assert value(answer, "double") == 14
        assert value(answer, "pid") != pid


@pytest.mark.parametrize(
    ("transport", "how", "cause"),
    [
        ("shm", 1, "exit"),
        ("shm", 2, "signal"),
        ("shm", 3, "signal"),
        ("shm", 5, "exit"),
        ("shm", 6, "signal"),
        ("inline", 2, "signal"),
        ("inline", 5, "exit"),
    ],
)
def test_a_death_by_input_is_that_requests_fault_and_the_model_serves_on(serve: Serve, how: int, cause: str) -> None:
    served = serve("dying.py")
    answer = served.http.infer("dying", {"how": np.array([[how]], np.int32)})
    assert (answer.status, answer.code()) == (500, "poison_item")
    assert served.http.infer("dying", {"how": np.zeros((1, 1), np.int32)}).status == 200
    assert metric(served, "samovar_worker_restarts_total", model="dying", cause=cause) == 2


def test_an_item_that_always_kills_does_not_make_its_model_fail(serve: Serve) -> None:
    served = serve("dying.py")
    for rows in range(1, 6):
        answer = served.http.infer("dying", {"how": np.full((rows, 1), 3, np.int32)})
        assert (answer.status, answer.code()) == (500, "poison_item")
    assert served.http.infer("dying", {"how": np.zeros((1, 1), np.int32)}).status == 200
    assert metric(served, "samovar_worker_restarts_total", model="dying", cause="signal") == 10
    assert entry(served, "dying")["state"] == "READY"


@both_transports
def test_a_request_that_killed_is_known_again_and_costs_no_other_worker(serve: Serve) -> None:
    served = serve("dying.py", options=["--control", "explicit"])
    kill, other = ({"how": np.array(how, np.int32)} for how in ([[3]], [[3], [3]]))

    def has_died(times: int) -> bool:
        eventually(lambda: metric(served, "samovar_workers", model="dying") == 1, "the last death is counted")
        return metric(served, "samovar_worker_restarts_total", model="dying", cause="signal") == times

    def refused() -> float:
        return metric(served, "samovar_rejected_total", model="dying", reason="poison")

    assert served.http.infer("dying", kill).code() == "poison_item"
    assert has_died(2)
    assert refused() == 0
    over_http, binary = served.http.infer("dying", kill), served.http.infer_binary("dying", kill)
    over_grpc = served.grpc.infer("dying", kill)
    assert [over_http.status, binary.status] == [500, 500]
    assert [answer.code() for answer in (over_http, binary, over_grpc)] == ["poison_item"] * 3
    assert has_died(2)
    assert refused() == 3
    assert served.http.infer("dying", {"how": np.zeros((1, 1), np.int32)}).status == 200
    assert served.http.infer("dying", other).code() == "poison_item", "unlike it: found out anew"
    assert has_died(4)
    assert refused() == 3
    assert load(served, "dying").status == 200
    assert served.http.infer("dying", kill).code() == "poison_item"
    assert has_died(6), "another load may know what to do with it"
    assert refused() == 3


def test_what_may_not_run_twice_is_lost_with_its_worker_each_time(serve: Serve) -> None:
    served = serve("dying.py")
    for deaths in (1, 2, 3):
        answer = served.http.infer("dying", {"how": np.array([[3]], np.int32)}, samovar_idempotent="false")
        assert (answer.status, answer.code()) == (503, "worker_lost")
        assert served.http.infer("dying", {"how": np.zeros((1, 1), np.int32)}).status == 200
        assert metric(served, "samovar_worker_restarts_total", model="dying", cause="signal") == deaths


@both_transports
def test_a_poison_item_costs_its_batch_mates_nothing(serve: Serve, background: ThreadPoolExecutor, runs: Path) -> None:
    served = serve("mortal.py:Mortal")
    blocker = background.submit(run, served.http, "mortal", 1, 1.0)
    wait_begun(runs, 1)
    answers = {key: background.submit(run, served.http, "mortal", key) for key in (10, 11, DIES, 12, 13)}
    eventually(lambda: metric(served, "samovar_queue_items", model="mortal") == 5, "all five wait")
    assert value(blocker.result(), "double") == 2
    poison = answers.pop(DIES).result()
    assert (poison.status, poison.code()) == (500, "poison_item")
    assert {key: value(answer.result(), "double") for key, answer in answers.items()} == {
        key: 2 * key for key in answers
    }
    first_batch = keys_in(runs)[1:6]
    assert sorted(first_batch) == [DIES, 10, 11, 12, 13], "they shared a batch"


def test_a_poison_item_costs_those_that_run_beside_it_nothing(
    serve: Serve, background: ThreadPoolExecutor, runs: Path
) -> None:
    served = serve("mortal.py:MortalAsync")
    beside = {key: background.submit(run, served.http, "mortal_async", key, 1.0) for key in (10, 11, 12)}
    for key in beside:
        wait_begun(runs, key)
    poison = run(served.http, "mortal_async", DIES)
    assert (poison.status, poison.code()) == (500, "poison_item")
    assert {key: value(answer.result(), "double") for key, answer in beside.items()} == {key: 2 * key for key in beside}
    assert keys_in(runs).count(DIES) <= 3, "at the first two deaths others ran beside it"
    known = run(served.http, "mortal_async", DIES)
    assert (known.status, known.code()) == (500, "poison_item")
    assert metric(served, "samovar_rejected_total", model="mortal_async", reason="poison") == 1
    assert all(run(served.http, "mortal_async", key).status == 200 for key in beside)


def test_the_children_of_a_dead_worker_die_with_it(serve: Serve) -> None:
    served = serve("children.py")
    child = int(served.http.infer("children", {"x": np.zeros((1, 1), np.float32)}).arrays()["output"][0, 0])
    assert child in served.processes()
    worker = next(pid for pid in served.workers() if os.getpgid(pid) == os.getpgid(child))
    os.kill(worker, signal.SIGKILL)
    assert served.wait_gone([child, worker]) == []


def test_one_of_two_instances_answers_while_the_other_restarts(serve: Serve) -> None:
    served = serve("mortal.py:MortalPair")
    with Load(served.http, "mortal_pair", clients=8, seconds=0.01) as clients:
        for deaths in range(1, 5):
            os.kill(pid_of(served, "mortal_pair"), signal.SIGKILL)
            assert entry(served, "mortal_pair")["state"] == "READY"
            eventually(lambda: metric(served, "samovar_worker_restarts_total") == deaths, "the death is seen")  # noqa: B023 - at once
            eventually(lambda: metric(served, "samovar_workers", model="mortal_pair") == 2, "both are back")
            count = len(clients.sent)
            eventually(lambda: len(clients.sent) > count + 50, "what was re-run has its answer")  # noqa: B023 - at once
    assert clients.wrong() == []
