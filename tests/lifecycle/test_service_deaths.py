"""What the death of a service's worker, or of a model under it, costs: nobody's answer that may be given twice."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clients import Clients
from http_door import Answer
from lifecycle.holding import ask
from lifecycle.pipelines import Pipeline
from notes import Notes
from serving import Serve, Served, both_transports
from watching import eventually, metric


@both_transports
@pytest.mark.parametrize(
    ("name", "header", "outcome"),
    [
        ("get", None, 200),
        ("get_sync", None, 200),
        ("again", None, 200),
        ("mounted get", None, 200),
        ("mounted head", None, 200),
        ("post", "true", 200),
        ("mounted post", "true", 200),
        ("post", None, 503),
        ("mounted post", None, 503),
        ("get", "false", 503),
        ("again", "false", 503),
    ],
)
def test_a_request_runs_again_if_it_may_and_is_answered_at_once_if_not(
    held: Served, tmp_path: Path, background: ThreadPoolExecutor, name: str, header: str | None, outcome: int
) -> None:
    notes = Notes.within(tmp_path)
    headers = {} if header is None else {"samovar_idempotent": header}
    asked = background.submit(ask, held, name, notes, **headers)
    first = int(notes.wait("").split()[-1])
    os.kill(first, signal.SIGKILL)
    if outcome == 503:
        answer = asked.result()
        assert (answer.status, answer.code()) == (503, "worker_lost")
        assert "retry-after" not in answer.headers
        assert len(notes.notes()) == 1
    else:
        eventually(lambda: len(notes.notes()) == 2, "it runs again")
        notes.go()
        assert asked.result().status == 200
        assert int(notes.notes()[1].split()[-1]) != first
    eventually(lambda: held.http.get("/held/pid").status == 200, "the service is back")


@both_transports
@pytest.mark.parametrize(("mebibytes", "outcome"), [(1, 200), (7, 200), (9, 503)])
def test_a_body_that_was_not_kept_cannot_be_sent_again(
    held: Served, tmp_path: Path, background: ThreadPoolExecutor, mebibytes: int, outcome: int
) -> None:
    notes = Notes(tmp_path / "upload")
    data = bytes(mebibytes << 20)
    path = "/held/upload/" + str(notes.note).replace("/", "~")
    kind = {"content-type": "application/octet-stream"}
    asked = background.submit(held.http.request, "PUT", path, data, kind)
    os.kill(int(notes.wait(f"upload of {len(data)}").split()[-1]), signal.SIGKILL)
    if outcome == 200:
        eventually(lambda: len(notes.notes()) == 2, "it runs again")
        notes.go()
    answer = asked.result()
    assert answer.status == outcome
    assert outcome == 200 or answer.code() == "worker_lost"
    eventually(lambda: held.http.get("/held/pid").status == 200, "the service is back")


def test_a_request_that_waits_is_not_touched_by_a_death(
    held: Served, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    def post(notes: Notes) -> Answer:
        return held.http.post("/single/post", {"note": str(notes.note)})

    first, second = Notes.within(tmp_path), Notes.within(tmp_path)
    lost = background.submit(post, first)
    pid = int(first.wait("post").split()[1])
    waiting = background.submit(post, second)
    eventually(lambda: metric(held, "samovar_queue_items", model="single") == 1, "it waits")
    assert second.notes() == []
    second.go()
    os.kill(pid, signal.SIGKILL)
    assert lost.result().code() == "worker_lost"
    assert waiting.result().status == 200
    assert len(second.notes()) == 1


def wrong_answers(clients: Clients[Answer]) -> set[tuple[int, str]]:
    """Status and code of answers other than the sum."""
    return {
        (answer.status, answer.json().get("code", "") if answer.status != 200 else answer.body.decode())
        for number, answer in clients.answers.items()
        if answer.status != 200 or answer.json() != [number + 2]
    }


@both_transports
@pytest.mark.parametrize("method", ["both", "both_sync", "waiting"])
def test_deaths_of_a_model_under_a_service_cost_its_callers_nothing(pipeline: Pipeline, method: str) -> None:
    clients = Clients(lambda number: pipeline.ask(method, number), 8)
    step = "patient" if method == "waiting" else "first"
    for _ in range(4):
        clients.more(30)
        os.kill(last_pid(pipeline, step), signal.SIGKILL)
        os.kill(last_pid(pipeline, "second"), signal.SIGKILL)
    clients.more(30)
    clients.end()
    assert wrong_answers(clients) == set()


def last_pid(pipeline: Pipeline, step: str) -> int:
    """The process that ran a step last."""
    return int([line for line in pipeline.notes() if line.startswith(step)][-1].split()[1])


@both_transports
@pytest.mark.parametrize(("header", "wrong"), [("true", set()), ("false", {(503, "worker_lost")})])
def test_deaths_of_a_service_under_load_cost_only_what_may_not_run_twice(
    serve: Serve, tmp_path: Path, header: str, wrong: set[tuple[int, str]]
) -> None:
    served = serve("composed.py")
    pipeline = Pipeline.of(served, tmp_path)
    headers = {"samovar-idempotent": header}
    clients = Clients(lambda number: pipeline.ask("both", number, headers=headers), 8)
    for deaths in range(1, 4):
        clients.more(30)
        os.kill(worker_of(served), signal.SIGKILL)
        eventually(lambda: metric(served, "samovar_worker_restarts_total", model="pipeline") == deaths, "it is seen")  # noqa: B023 - at once
    clients.more(30)
    clients.end()
    assert wrong_answers(clients) == wrong
    pipeline.wait_idle()


def worker_of(served: Served) -> int:
    """The worker of the service."""
    return int(served.http.get("/pipeline/pid").json())
