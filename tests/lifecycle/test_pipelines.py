"""A request on its way through models: clients that leave, deadlines, stops and reloads, and what is left of it."""

import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lifecycle.pipelines import WAITS, Pipeline
from serving import Serve, both_transports
from watching import entry, eventually, is_ready, load, metric, unload, wait_unloaded

SERVICE_METHODS = ["both", "both_sync", "waiting"]
GROWTH_KIB = 96 * 1024  # of the gigabyte that flows through


@both_transports
@pytest.mark.parametrize("method", [*SERVICE_METHODS, "chain"])
def test_the_next_step_does_not_start_when_the_client_has_gone(pipeline: Pipeline, method: str) -> None:
    before = cancelled(pipeline)
    with pipeline.served.http.wire() as wire:
        pipeline.begin(wire, method, WAITS)
        pipeline.wait("patient" if method == "waiting" else "first")
    if method == "waiting":
        pipeline.wait("cancelled")
    else:
        eventually(lambda: cancelled(pipeline) > before, "the engine has noticed")
    pipeline.go()
    pipeline.wait_idle()
    assert not {"between", "second"} & set(pipeline.steps())
    assert pipeline.another().ask(method, 1).json() == [3]


def cancelled(pipeline: Pipeline) -> float:
    """Requests of the service whose clients went away."""
    return metric(pipeline.served, "samovar_cancelled_total", model="pipeline")


@both_transports
def test_a_step_that_waits_does_not_start_when_the_client_has_gone(
    pipeline: Pipeline, background: ThreadPoolExecutor
) -> None:
    gate = pipeline.another()
    held = background.submit(gate.ask, "both", WAITS)
    gate.wait("first")
    with pipeline.served.http.wire() as wire:
        pipeline.begin(wire, "both", 1)
        eventually(lambda: metric(pipeline.served, "samovar_in_flight", model="pipeline") == 2, "both run")
    eventually(lambda: metric(pipeline.served, "samovar_in_flight", model="pipeline") == 1, "it has left")
    gate.go()
    assert held.result().json() == [WAITS + 2]
    pipeline.wait_idle()
    assert pipeline.notes() == []


@both_transports
@pytest.mark.parametrize("method", [*SERVICE_METHODS, "chain"])
def test_a_deadline_holds_for_every_step(pipeline: Pipeline, method: str) -> None:
    answer = pipeline.ask(method, WAITS, headers={"samovar-timeout-ms": "300"})
    assert (answer.status, answer.code()) == (504, "deadline_exceeded")
    if method == "waiting":
        pipeline.wait("cancelled")
    pipeline.go()
    pipeline.wait_idle()
    assert not {"between", "second"} & set(pipeline.steps())
    assert pipeline.another().ask(method, 1).json() == [3]


@both_transports
def test_a_step_does_not_start_after_the_deadline_of_its_request(
    pipeline: Pipeline, background: ThreadPoolExecutor
) -> None:
    gate = pipeline.another()
    held = background.submit(gate.ask, "both", WAITS)
    gate.wait("first")
    for method in ("both", "both_sync"):
        answer = pipeline.ask(method, 1, headers={"samovar-timeout-ms": "300"})
        assert (answer.status, answer.code()) == (504, "deadline_exceeded")
    gate.go()
    assert held.result().status == 200
    pipeline.wait_idle()
    assert pipeline.notes() == []


@both_transports
def test_a_stop_lets_requests_finish_all_their_steps(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    pipeline = Pipeline.of(serve("composed.py"), tmp_path)
    requests = [(pipeline.another(), method) for method in (*SERVICE_METHODS, "chain")]
    asked = [background.submit(one.ask, method, WAITS) for one, method in requests]
    requests[2][0].wait("patient")
    others = [one for one, method in requests if method != "waiting"]
    eventually(lambda: any(one.notes() for one in others), "one of the others holds the first")
    eventually(lambda: metric(pipeline.served, "samovar_in_flight", model="pipeline") == 4, "all run")
    pipeline.served.process.send_signal(signal.SIGTERM)
    eventually(lambda: "draining" in pipeline.served.output(), "it drains")
    for one, _ in requests:
        one.go()
    assert [answer.result().json() for answer in asked] == [[WAITS + 2]] * 4
    assert pipeline.served.process.wait(10) == 0
    assert pipeline.served.wait_gone() == []


def test_a_reloaded_model_is_used_at_once_and_its_callers_notice_nothing(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    pipeline = Pipeline.of(serve("composed.py", options=["--control", "explicit"]), tmp_path)
    before = {pipeline.ask("both", 1).status and pipeline.pid("first")}
    answers = [background.submit(pipeline.ask, "both", number) for number in range(1, 200)]
    assert load(pipeline.served, "first").status == 200
    assert load(pipeline.served, "pipeline").status == 200
    assert [answer.result().json() for answer in answers] == [[number + 2] for number in range(1, 200)]
    after = pipeline.another()
    assert after.ask("both", 1).json() == [3]
    assert after.pid("first") not in before


def test_a_service_without_a_model_that_it_uses_is_not_ready_and_says_which(serve: Serve, tmp_path: Path) -> None:
    served = serve("composed.py", options=["--control", "explicit"])
    pipeline = Pipeline.of(served, tmp_path)
    assert unload(served, "second").status == 200
    wait_unloaded(served, "second")
    for name in ("pipeline", "chained", "async_chained"):
        answer = served.http.get(f"/v2/models/{name}/ready")
        assert (answer.status, answer.code()) == (503, "not_ready"), name
        assert '"second"' in answer.json()["error"]
    answer = pipeline.ask("both", 1)
    assert (answer.status, answer.code()) == (503, "not_ready")
    assert answer.json()["error"].startswith("step second.predict: ")
    assert pipeline.ask("waiting", 1).status == 503
    assert is_ready(served, "first")
    assert load(served, "second").status == 200
    assert is_ready(served, "pipeline")
    assert pipeline.ask("both", 1).json() == [3]
    assert entry(served, "second")["state"] == "READY"


@both_transports
def test_pipelines_leave_nothing_behind(pipeline: Pipeline, background: ThreadPoolExecutor) -> None:
    served = pipeline.served

    def ask(number: int) -> int:
        """Requests that end in every way."""
        method = ("both", "both_sync", "waiting", "chain")[number % 4]
        match number // 4 % 4:
            case 0:
                return pipeline.ask(method, -10 if number % 8 else 1).status
            case 1:
                return served.http.post("/pipeline/large", {"mebibytes": 2}).status
            case 2:
                with served.http.wire() as wire:
                    pipeline.begin(wire, method, 1)
                return 0
            case _:
                return pipeline.ask(method, 1, headers={"samovar-timeout-ms": "1"}).status

    def settle() -> dict[int, tuple[int, int]]:
        pipeline.wait_idle()
        return {pid: (handles(pid), private_kib(pid)) for pid in (served.pid, *served.workers())}

    list(background.map(ask, range(320)))
    before = settle()
    assert set(background.map(ask, range(480))) <= {0, 200, 400, 504}
    eventually(lambda: is_as(settle(), before), "descriptors and memory are as before")


def handles(pid: int) -> int:
    """Open descriptors but those of shared memory, of which an idle channel keeps up to 64 MiB either way."""
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    return sum("memfd" not in link for link in links)


def private_kib(pid: int) -> int:
    """Memory of a process alone."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])  # type: ignore[index]  # every process has one


def is_as(after: dict[int, tuple[int, int]], before: dict[int, tuple[int, int]]) -> bool:
    """The same processes, no descriptor more, hardly more memory."""
    return after.keys() == before.keys() and all(
        after[pid][0] <= before[pid][0] and after[pid][1] <= before[pid][1] + GROWTH_KIB for pid in before
    )


MODEL = """
import numpy as np
from jaxtyping import Float32
import samovar

@samovar.model(name="NAME", concurrency=4)
class Model:
    USES
    async def predict(self, x: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
        return RESULT
"""


def write(path: Path, name: str, uses: str | None) -> Path:
    """A model that returns what another does, or adds one."""
    text = MODEL.replace("NAME", name).replace("USES", f'other = samovar.use("{uses}")' if uses else "")
    path.write_text(text.replace("RESULT", "await self.other.predict(x)" if uses else "x + 1"))
    return path


def test_a_circle_that_a_later_load_would_close_is_refused_and_what_serves_serves_on(
    serve: Serve, tmp_path: Path
) -> None:
    outer, inner = write(tmp_path / "outer.py", "outer", "inner"), write(tmp_path / "inner.py", "inner", None)
    served = serve(str(outer), str(inner), options=["--control", "explicit"])
    write(inner, "inner", "outer")
    answer = load(served, "inner")
    assert (answer.status, answer.code()) == (500, "load_failed")
    assert "inner -> outer -> inner" in answer.json()["error"] or "outer -> inner -> outer" in answer.json()["error"]
    x = {"x": np.ones(1, np.float32)}
    assert [served.http.infer(name, x).arrays()["output"].tolist() for name in ("outer", "inner")] == [[2], [2]]
    write(inner, "inner", None)
    assert load(served, "inner").status == 200
