"""The worker's loops: every call and question gets one answer, whatever user code does."""

import asyncio
import gc
import json
import os
import re
import resource
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samovar.runtimes import Question
from samovar.worker.lines import running
from samovar.worker.loop import Worker

Program = Callable[..., Path]
FP32 = 11


class Bytes(bytes):
    """Bytes that can be watched."""


class FakeCall:
    def __init__(self, number: int, *rows: Sequence[float], instance: int = 0) -> None:
        array = np.array(rows, "f4")
        self.id, self.instance, self.method, self.cancelled = number, instance, "", False
        self._inputs: list[Any] = [(Bytes(array.tobytes()), FP32, array.shape)]
        self.answers: list[Any] = []
        self.finished: Callable[[], None] = lambda: None

    def inputs(self) -> list[Any]:
        inputs, self._inputs = self._inputs, []
        return inputs

    def request_ids(self) -> list[str]:
        return [f"r{self.id}", "other"]

    def http(self) -> None:
        return None

    def finish(self, outputs: Sequence[Any]) -> None:
        self._answer([(number, shape, memoryview(data).tobytes()) for number, shape, data in outputs])

    def fail(self, class_name: str, message: str, traceback: str, code: str = "") -> None:
        self._answer((class_name, message, traceback))

    def refuse_input(self, message: str) -> None:
        self._answer(message)

    def refuse_output(self, message: str) -> None:
        self._answer(message)

    def _answer(self, answer: Any) -> None:
        self.answers.append(answer)
        self.finished()

    def rows(self) -> list[list[float]]:
        (((number, shape, data),),) = self.answers
        assert number == FP32
        found: list[list[float]] = np.frombuffer(data, "f4").reshape(shape).tolist()
        return found


class FakeAsk:
    def __init__(self, verb: str, **body: Any) -> None:
        self.verb, self.body = verb, json.dumps(body)
        self.answers: list[tuple[bool, dict[str, Any]]] = []

    def tell(self, ok: bool, body: str) -> None:
        self.answers.append((ok, json.loads(body)))

    def answer(self) -> tuple[bool, dict[str, Any]]:
        (answer,) = self.answers
        return answer


class FakeChannel:
    """Hands out messages; in an event loop it ends when every call has been answered."""

    def __init__(self, *messages: Any, cancelled: Sequence[int] = ()) -> None:
        self._messages = deque(messages)
        self._cancelled = list(cancelled)
        self._reader, self._writer = os.pipe()
        self._open = 0
        self._calls = [message for message in messages if isinstance(message, FakeCall)]
        for call in self._calls:
            self._open += 1
            call.finished = self._count
        os.write(self._writer, b"x")

    def _count(self) -> None:
        self._open -= 1
        os.write(self._writer, b"x")

    def receive(self) -> Any:
        return self._messages.popleft() if self._messages else None

    try_receive = receive

    @property
    def ended(self) -> bool:
        return not self._messages and self._open == 0

    def fileno(self) -> int:
        return self._reader

    def begin(self, *_: Any) -> Any:
        raise AssertionError("none of these models calls another")

    def news(self) -> list[int]:
        cancelled, self._cancelled = self._cancelled, []
        for call in self._calls:
            call.cancelled |= call.id in cancelled
        return cancelled


def load(path: Path, *, is_async: bool = False, instance: int = 0, **options: Any) -> FakeAsk:
    spec = {"name": "x", "datatype": "FP32", "dims": [2]}
    return FakeAsk(
        "load",
        name="m",
        runtime="python",
        source={"path": str(path), "class": "M", "is_async": is_async, "uses": {}},
        inputs=[spec],
        outputs=[{**spec, "name": "output"}],
        batch_axis=True,
        options={
            "max_batch_size": 8,
            "concurrency": 1,
            "threads": os.cpu_count(),
            "worker": "own",
            "writable_inputs": False,
            "warm_up": None,
            "max_memory_bytes": None,
            **options,
        },
        instance=instance,
        service=None,
    )


def model(body: str, *, before: str = "", keyword: str = "def") -> str:
    array = 'Float32[np.ndarray, "batch 2"]'
    return f"{before}\n@samovar.model\nclass M:\n    {keyword} predict(self, x: {array}) -> {array}:\n        {body}\n"


def run(*messages: Any, cancelled: Sequence[int] = ()) -> None:
    Worker(FakeChannel(*messages, cancelled=cancelled)).run()


def test_a_call_is_answered_with_what_predict_returns(program: Program) -> None:
    ask, call = load(program(model("return x * 2"))), FakeCall(1, [1, 2], [3, 4])
    run(ask, call)
    assert ask.answer() == (True, {})
    assert call.rows() == [[2, 4], [6, 8]]


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        ("raise ValueError('bad plate')", "ValueError", "bad plate"),
        ("raise SystemExit(1)", "SystemExit", "1"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("raise MemoryError", "MemoryError", ""),
        (r"raise OSError('\udc80')", "OSError", r"\udc80"),
        ("raise ValueError('is read-only, this file')", "ValueError", "is read-only, this file"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_user_code_raises_is_the_answer_to_that_call_alone(
    program: Program, body: str, name: str, message: str, is_async: bool
) -> None:
    text = model(f"if x[0, 0] < 0: {body}\n        return x", keyword="async def" if is_async else "def")
    bad, good = FakeCall(1, [-1, 0]), FakeCall(2, [1, 0])
    run(load(program(text), is_async=is_async), bad, good)
    ((class_name, text, traceback),) = bad.answers
    assert (class_name, text) == (name, message)
    assert "served_program.py" in traceback
    assert "samovar/worker" not in traceback
    assert good.rows() == [[1, 0]]


@pytest.mark.parametrize(
    ("body", "message"),
    [("x += 1; return x", "output array is read-only"), ("x[0] = 1", "assignment destination is read-only")],
)
def test_writing_into_an_input_is_answered_with_its_cure(program: Program, body: str, message: str) -> None:
    call = FakeCall(1, [1, 2])
    run(load(program(model(body))), call)
    cure = "inputs cannot be written: x = x + 1 instead of x += 1, or writable_inputs=True in @samovar.model"
    assert call.answers[0][:2] == ("ValueError", f"{message}; {cure}")


def test_what_cannot_be_sent_is_refused(program: Program) -> None:
    call = FakeCall(1, [1, 2])
    run(load(program(model("return None"))), call)
    assert call.answers == ['output "output" is None; return an array of float32']


def test_writable_inputs_are_copies(program: Program) -> None:
    call = FakeCall(1, [1, 2])
    run(load(program(model("x += 1; return x")), writable_inputs=True), call)
    assert call.rows() == [[2, 3]]


def test_nothing_keeps_the_bytes_of_a_call_that_has_ended(program: Program) -> None:
    watched = np.arange(2, dtype="f4").reshape(1, 2)
    call = FakeCall(1, [1, 2])
    call._inputs = [(watched, FP32, (1, 2))]
    last_words = weakref.ref(watched)
    del watched
    seen: list[Any] = []
    channel = FakeChannel(load(program(model("return x"))), call)
    receive = channel.receive

    def watching() -> Any:
        gc.disable()  # reference counting alone must do
        if call.answers:
            seen.append(last_words())
        gc.enable()
        return receive()

    channel.receive = watching  # type: ignore[method-assign] # to look at the moment of the next wait
    Worker(channel).run()
    assert seen == [None]


def test_async_calls_run_together_and_a_cancelled_one_ends(program: Program) -> None:
    body = """
        self.running += 1
        if x[0, 0] < 0:
            await asyncio.Event().wait()
        while self.running < 3:
            await asyncio.sleep(0)
        return x
    """
    text = model(body.strip(), before="import asyncio", keyword="async def") + "    running = 0\n"
    first, second, stuck = FakeCall(1, [1, 0]), FakeCall(2, [2, 0]), FakeCall(3, [-1, 0])
    channel = FakeChannel(load(program(text), is_async=True, concurrency=8), first, second, stuck)

    def cancel() -> list[int]:  # once the others have their answers
        os.write(channel._writer, b"x")
        stuck.cancelled = bool(first.answers and second.answers)
        return [3] if stuck.cancelled else []

    channel.news = cancel  # type: ignore[method-assign] # a cancellation that comes late
    Worker(channel).run()
    assert first.rows() == [[1, 0]]
    assert second.rows() == [[2, 0]]
    assert [answer[0] for answer in stuck.answers] == ["CancelledError"]


def test_a_call_that_is_cancelled_before_it_has_begun_is_answered_too(program: Program) -> None:
    text = model("return x", before="import asyncio", keyword="async def")
    early, other = FakeCall(1, [1, 0]), FakeCall(2, [2, 0])
    run(load(program(text), is_async=True, concurrency=8), early, other, cancelled=[1])  # the news come with the calls
    assert [answer[0] for answer in early.answers] == ["CancelledError"]
    assert other.rows() == [[2, 0]]


def test_async_calls_beyond_the_concurrency_are_not_begun(program: Program) -> None:
    body = """
        self.running += 1
        await asyncio.sleep(0)
        most = self.running
        self.running -= 1
        return x * most
    """
    text = model(body.strip(), before="import asyncio", keyword="async def") + "    running = 0\n"
    calls = [FakeCall(number, [1, 1]) for number in range(5)]
    run(load(program(text), is_async=True, concurrency=2), *calls)
    assert max(row for call in calls for row in call.rows()) == [2, 2]


HOOKS = """
    def __init__(self):
        self.events = []
    {keyword} load(self):
        print("loaded")
    {keyword} unload(self):
        print("unloaded")
"""


@pytest.mark.parametrize("hooks", ["def", "async def"])
@pytest.mark.parametrize("predict", ["def", "async def"])
def test_load_and_unload_run_in_either_form(
    program: Program, capsys: pytest.CaptureFixture[str], hooks: str, predict: str
) -> None:
    path = program(model("return x", keyword=predict) + HOOKS.format(keyword=hooks))
    loading, call, unloading = load(path, is_async=predict != "def"), FakeCall(1, [1, 2]), FakeAsk("unload")
    run(loading, call)
    assert (loading.answer(), call.rows()) == ((True, {}), [[1, 2]])
    run(load(path), unloading)
    assert unloading.answer() == (True, {})
    assert capsys.readouterr().out == "loaded\nloaded\nunloaded\n"


@pytest.mark.parametrize("hooks", ["def", "async def"])
def test_an_unload_that_raises_is_told_with_its_cause(program: Program, hooks: str) -> None:
    path = program(model("return x") + f"    {hooks} unload(self):\n        raise OSError('no disk')\n")
    ask = FakeAsk("unload")
    run(load(path), ask)
    ok, failure = ask.answer()
    assert (ok, failure["message"]) == (False, "M.unload() raised OSError: no disk")
    assert failure["traceback"].endswith("OSError: no disk\n")


@pytest.mark.parametrize("hooks", ["def", "async def"])
def test_a_load_that_raises_is_told_with_its_cause(program: Program, hooks: str) -> None:
    path = program(model("return x") + f"    {hooks} load(self):\n        raise OSError('no weights')\n")
    ask = load(path)
    run(ask)
    ok, failure = ask.answer()
    assert not ok
    assert failure["message"] == "M.load() raised OSError: no weights"
    assert failure["exception"] == "OSError"
    assert re.fullmatch(r"see served_program\.py, line \d+", failure["next_step"])
    assert "raise OSError('no weights')" in failure["traceback"]


def test_a_constructor_that_exits_is_told(program: Program) -> None:
    ask = load(program(model("return x") + "    def __init__(self): raise SystemExit(4)\n"))
    run(ask)
    assert ask.answer()[1]["message"] == "M() raised SystemExit: 4"


def test_configured_concurrency_needs_an_async_predict(program: Program) -> None:
    ask = load(program(model("return x")), concurrency=2)
    run(ask)
    assert ask.answer()[1]["message"] == "class M has concurrency = 2, but its predict is not async"


def test_a_target_is_described_and_then_loaded_by_the_same_worker(program: Program) -> None:
    path = program(model("return x"))
    describing, loading = FakeAsk("describe", **Question(path).to_json()), load(path)
    run(describing, loading)
    ok, body = describing.answer()
    assert ok
    assert [found["name"] for found in body["models"]] == ["m"]
    assert loading.answer() == (True, {})


def test_what_cannot_be_prepared_does_not_matter() -> None:
    ask = FakeAsk("prepare", imports=["no_such_module_anywhere", "colorsys"])
    run(ask)
    assert ask.answer() == (True, {})


def test_an_unknown_question_is_answered() -> None:
    ask = FakeAsk("dance")
    run(ask)
    assert ask.answer()[0] is False


def test_lines_carry_the_requests_of_their_call_and_no_other(program: Program) -> None:
    body = """
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append((float(x[0, 0]), running.get().prefix()))
        return x
    """
    before = "import asyncio\nfrom samovar.worker.lines import running\nseen = []"
    path = program(model(body.strip(), before=before, keyword="async def"))
    run(load(path, is_async=True, concurrency=2), FakeCall(1, [1, 0]), FakeCall(2, [2, 0]))
    from samovar.runtimes.python.importing import import_file

    seen = import_file(path).seen
    assert set(seen) == {(1.0, "\x1e0:r1,other\x1f"), (2.0, "\x1e0:r2,other\x1f")}
    assert seen != sorted(seen)
    assert running.get() is None


def test_a_worker_leaves_no_event_loop_behind(program: Program) -> None:
    run(load(program(model("return x", keyword="async def")), is_async=True))
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_several_instances_are_loaded_called_and_unloaded_by_their_numbers(program: Program) -> None:
    first, second = (
        load(program(model(f"return x + {added}"), f"adding{added}.py"), instance=added) for added in (1, 2)
    )
    calls = [FakeCall(1, [1, 1], instance=1), FakeCall(2, [1, 1], instance=2), FakeCall(3, [1, 1], instance=2)]
    unload = FakeAsk("unload", instance=1, is_final=False)
    late = FakeCall(4, [1, 1], instance=1)
    run(first, second, *calls[:2], unload, calls[2], late)
    assert first.answer() == second.answer() == unload.answer() == (True, {})
    assert [call.rows() for call in calls] == [[[2, 2]], [[3, 3]], [[3, 3]]]
    assert late.answers[0][0] == "KeyError"


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_an_instance_among_others_that_fails_to_load_leaves_nothing(program: Program, keyword: str) -> None:
    failing = model("return x").replace(
        "    def", f"    {keyword} load(self): raise ValueError('no weights')\n    def", 1
    )
    good, bad = load(program(model("return x"), "good.py"), instance=1), load(program(failing, "bad.py"), instance=2)
    call, late = FakeCall(1, [1, 1], instance=1), FakeCall(2, [1, 1], instance=2)
    run(good, bad, call, late)
    assert good.answer() == (True, {})
    assert bad.answer()[1]["message"] == "M.load() raised ValueError: no weights"
    assert call.rows() == [[1, 1]]
    assert late.answers[0][0] == "KeyError"


def test_a_limit_of_memory_that_is_too_small_is_refused_before_it_holds(program: Program) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    ask = load(program(model("return x")), max_memory_bytes=4_096)
    run(ask)
    ok, failure = ask.answer()
    assert (ok, failure["exception"]) == (False, "MemoryError")
    assert failure["message"].startswith("max_memory_bytes is 4096, but the worker's libraries alone take ")
    assert resource.getrlimit(resource.RLIMIT_AS) == before
