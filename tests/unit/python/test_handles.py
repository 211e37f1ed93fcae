"""Handles: what they send and give, with a worker behind them and without one, and what they say of their misuse."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from jaxtyping import Float32, Int64, UInt8

import models
import samovar
from samovar.errors import InputError, StepError, TargetError
from samovar.service.handles import set_caller
from samovar.service.uses import bind
from samovar.types import Datatype

Rows = Float32[np.ndarray, "batch 2"]
X = np.array([[1, 2]], np.float32)


class Sums(NamedTuple):
    total: Rows
    places: Int64[np.ndarray, "batch"]


@samovar.model
class Double:
    def load(self) -> None:
        self.factor = 2

    def predict(self, x: Rows) -> Rows:
        return x * self.factor


@samovar.model
class Slow:
    async def load(self) -> None:
        self.lock = asyncio.Lock()

    async def predict(self, x: Rows) -> Sums:
        async with self.lock:
            return Sums(x, np.arange(len(x)))


@samovar.model
class Counting:
    ended = 0

    def predict(self, x: Rows) -> Iterator[Int64[np.ndarray, ""]]:
        try:
            yield from (np.array(x[0, 0] + number, np.int64) for number in range(3))
        finally:
            Counting.ended += 1


@samovar.model
class Ticking:
    async def predict(self, x: Rows) -> AsyncIterator[Rows]:
        for number in range(3):
            await asyncio.sleep(0)
            yield x * number


class Plates:
    double = samovar.use(Double)
    slow = samovar.use(Slow)
    counting = samovar.use(Counting)
    ticking = samovar.use(Ticking)
    named = samovar.use("lprnet")


class FakeStep:
    """A step whose answers are known; `forever` is one that never comes."""

    def __init__(self, *taken: Any, forever: bool = False) -> None:
        self._taken = list(taken)
        self._forever = forever
        self.cancelled = False
        self.waiting = asyncio.Event()

    async def take(self) -> Any:
        self.waiting.set()
        if self._forever:
            await asyncio.Event().wait()
        return self.take_sync()

    def take_sync(self) -> Any:
        taken = self._taken.pop(0)
        if isinstance(taken, Exception):
            raise taken
        return taken

    def cancel(self) -> None:
        self.cancelled = True


class FakeCaller:
    """A worker that begins the steps that it was given, in turn."""

    def __init__(self, *steps: FakeStep) -> None:
        self._steps = list(steps)
        self.begun: list[tuple[str, str | None, list[Any]]] = []
        self.loop_thread: int | None = None

    def begin(self, model: str, version: str | None, tensors: Sequence[Any]) -> FakeStep:
        self.begun.append((model, version, list(tensors)))
        return self._steps.pop(0)

    def in_event_loop(self) -> bool:
        return threading.get_ident() == self.loop_thread


def output(array: Any, name: str = "output") -> tuple[str, Any, int, tuple[int, ...]]:
    datatype = Datatype.of_numpy(array.dtype.name)
    assert datatype is not None
    return name, memoryview(array.tobytes()), int(datatype), array.shape


def bound(*, streams: bool = False, inputs: Any = None, **model: Any) -> dict[str, Any]:
    spec = {"name": "x", "datatype": "FP32", "dims": [2]}
    signature = {"inputs": inputs or [spec], "outputs": [spec], "batch_axis": inputs is None}
    return {"model": "double", "version": None, "streams": streams, **signature, **model}


def engine(*steps: FakeStep, **options: Any) -> tuple[Any, FakeCaller]:
    """An object with the handle `h` in a worker, and that worker."""

    class User:
        h = samovar.use(Double)

    caller = FakeCaller(*steps)
    set_caller(caller)
    try:
        bind(User, {"h": bound(**options)})
    finally:
        set_caller(None)
    return User(), caller


def whole(array: Any) -> FakeStep:
    return FakeStep((True, [output(array)]))


def test_an_array_goes_out_uncopied_and_comes_back_as_a_read_only_view() -> None:
    user, caller = engine(whole(X * 2), version="3")
    result = asyncio.run(user.h.predict(X))
    assert result.tolist() == [[2, 4]]
    assert not result.flags.writeable
    ((model, version, [(name, number, shape, data)]),) = caller.begun
    assert (model, version, name, number, shape) == ("double", "3", "x", Datatype.FP32, (1, 2))
    assert np.shares_memory(np.asarray(data), X)


@pytest.mark.parametrize("value", [[[1, 2]], X[:, ::1], np.array([[1, 0, 2]], np.float32)[:, ::2], X.astype(">f4")])
def test_arguments_get_the_dtype_and_order_that_is_sent(value: Any) -> None:
    user, caller = engine(whole(X), whole(X))
    assert user.h.predict.sync(value).tolist() == user.h.predict.sync(x=value).tolist() == [[1, 2]]
    for _, _, [(_, number, shape, data)] in caller.begun:
        assert (number, shape, bytes(data)) == (Datatype.FP32, (1, 2), X.tobytes())


def test_texts_travel_packed() -> None:
    spec = {"name": "x", "datatype": "BYTES", "dims": [-1]}
    step = FakeStep((True, [("output", b"\x01\0\0\0a\x02\0\0\0bc", int(Datatype.BYTES), (2,))]))
    user, caller = engine(step, inputs=[spec])
    assert user.h.predict.sync(["ä"]).tolist() == [b"a", b"bc"]
    assert bytes(caller.begun[0][2][0][3]) == b"\x02\0\0\0\xc3\xa4"


def test_an_image_is_height_width_and_three_colours() -> None:
    class Image:
        """What Pillow's images have."""

        mode = "L"
        pixels = np.full((2, 3), 7, np.uint8)

        @property
        def __array_interface__(self) -> Any:
            return self.pixels.__array_interface__

        def convert(self, mode: str) -> "Image":
            found = Image()
            found.mode, found.pixels = mode, np.repeat(self.pixels[..., None], 3, axis=-1)
            return found

    user, caller = engine(whole(X), inputs=[{"name": "x", "datatype": "UINT8", "dims": [-1, -1, 3]}])
    user.h.predict.sync(Image())
    assert caller.begun[0][2][0][1:3] == (Datatype.UINT8, (2, 3, 3))


def test_several_outputs_have_their_names() -> None:
    step = FakeStep((True, [output(X, "total"), output(X[0], "count")]))
    user, _ = engine(step)
    result = asyncio.run(user.h.predict(X))
    assert (result.total.tolist(), result["count"].tolist()) == ([[1, 2]], [1, 2])


def test_steps_run_together_and_a_task_takes_one() -> None:
    user, caller = engine(whole(X), whole(X * 2), whole(X * 3))

    async def run() -> list[Any]:
        together = await asyncio.gather(user.h.predict(X), user.h.predict(X))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(user.h.predict(X))
        return [result.tolist() for result in (*together, task.result())]

    assert asyncio.run(run()) == [[[1, 2]], [[2, 4]], [[3, 6]]]
    assert len(caller.begun) == 3


def test_a_cancelled_caller_cancels_its_step() -> None:
    step = FakeStep(forever=True)
    user, _ = engine(step)

    async def run() -> None:
        task = asyncio.ensure_future(user.h.predict(X))
        await step.waiting.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert step.cancelled


def test_a_step_that_fails_says_which_it_was() -> None:
    user, _ = engine(*(FakeStep(StepError("no plates", "double", "model_error")) for _ in range(2)))
    with pytest.raises(StepError, match=r"^step double.predict: no plates$") as caught:
        asyncio.run(user.h.predict(X))
    assert (caught.value.model, caught.value.code) == ("double", "model_error")
    with pytest.raises(StepError):
        user.h.predict.sync(X)


def stream(*arrays: Any) -> FakeStep:
    return FakeStep(*((False, [output(array)]) for array in arrays), (True, []))


def test_parts_come_one_by_one_in_either_form() -> None:
    user, _ = engine(stream(X, X * 2), stream(X, X * 2), streams=True)

    async def run() -> list[Any]:
        return [part.tolist() async for part in user.h.predict(X)]

    assert asyncio.run(run()) == [part.tolist() for part in user.h.predict.sync(X)] == [[[1, 2]], [[2, 4]]]


def test_who_leaves_a_stream_early_cancels_it() -> None:
    steps = [stream(X, X), stream(X, X), stream(X, X)]
    user, _ = engine(*steps, streams=True)

    async def run() -> None:
        async for _ in user.h.predict(X):
            break
        async with contextlib.aclosing(user.h.predict(X)) as parts:
            await anext(parts)

    asyncio.run(run())
    for _ in user.h.predict.sync(X):
        break
    assert [step.cancelled for step in steps] == [True] * 3


@pytest.mark.parametrize("streams", [False, True])
def test_sync_in_the_event_loop_is_refused_with_its_cure(streams: bool) -> None:
    user, caller = engine(streams=streams)
    caller.loop_thread = threading.get_ident()
    with pytest.raises(
        TargetError, match=r"^step double.predict.sync waits in the event loop.*; write await and leave"
    ):
        user.h.predict.sync(X)
    assert caller.begun == []


async def awaited(value: Any) -> Any:
    return await value


async def iterated(value: Any) -> Any:
    return [part async for part in value]


def shape_of(h: Any) -> Any:
    with contextlib.closing(h.predict(X)) as call:
        return call.shape


MISUSES: dict[str, tuple[Any, str]] = {
    "shape": (lambda h: h.predict([1]), 'step double.predict: input "x" of model "double": shape [1] does not fit '),
    "dtype": (lambda h: h.predict(X.astype(float)), 'step double.predict: input "x" of model "double": dtype float64'),
    "name": (lambda h: h.predict(y=X), 'step double.predict: model "double" has no input "y"; its inputs are: x'),
    "missing": (lambda h: h.predict(), 'step double.predict: input "x" of model "double" is missing'),
    "not awaited": (
        lambda h: h.predict(h.predict(X)),
        'step double.predict: input "x" of model "double" is Whole, which was not awaited; await it first',
    ),
    "attribute": (shape_of, 'step double.predict was not awaited when its "shape" was asked for'),
    "element": (lambda h: h.predict(X)[0], "step double.predict was not awaited when its elements were asked for"),
    "elements": (lambda h: list(h.predict(X)), "step double.predict was not awaited when its elements were asked for"),
    "no stream": (
        lambda h: asyncio.run(iterated(h.predict(X))),
        "step double.predict does not stream; await it; only a predict that yields has parts",
    ),
}


@pytest.mark.parametrize(("misuse", "message"), MISUSES.values(), ids=MISUSES)
def test_misuse_is_told_with_its_cure(misuse: Any, message: str) -> None:
    user, caller = engine()
    with pytest.raises((InputError, TargetError, AttributeError, TypeError)) as caught:
        misuse(user.h)
    assert str(caught.value).startswith(message)
    assert caller.begun == []


def test_a_stream_that_is_awaited_or_iterated_without_async_is_told() -> None:
    user, _ = engine(streams=True)
    with pytest.raises(TargetError, match=r"^step double.predict streams; write async for part in it, without await$"):
        asyncio.run(awaited(user.h.predict(X)))
    with pytest.raises(TargetError, match=r"or for part in predict.sync\(...\)$"):
        list(user.h.predict(X))


def test_without_an_engine_a_handle_works_on_an_object_of_this_process() -> None:
    plates = Plates()

    async def run() -> list[Any]:
        doubled, sums = await asyncio.gather(plates.double.predict(X), plates.slow.predict(x=X))
        return [doubled.tolist(), sums.total.tolist(), sums.places.tolist()]

    assert asyncio.run(run()) == [[[2, 4]], [[1, 2]], [0]]
    assert plates.double.predict.sync([[3, 4]]).tolist() == [[6, 8]]
    assert plates.slow.predict.sync(X).places.tolist() == [0]


def test_without_an_engine_streams_stream_and_end_with_their_loop() -> None:
    plates = Plates()

    async def run() -> list[Any]:
        async for first in plates.counting.predict(X):
            assert first.tolist() == [1]
            break
        return [part.tolist() async for part in plates.ticking.predict(X)]

    ended = Counting.ended
    assert asyncio.run(run()) == [[[0, 0]], [[1, 2]], [[2, 4]]]
    assert Counting.ended == ended + 1
    assert [part.tolist() for part in plates.counting.predict.sync(X)] == [[1], [2], [3]]
    assert [part.tolist() for part in plates.ticking.predict.sync(X)][2] == [[2, 4]]


def test_without_an_engine_a_file_is_loaded_and_a_name_is_told(tmp_path: Path) -> None:
    path = models.scale(tmp_path / "double.onnx")

    class FromFile:
        double = samovar.use(path)

    assert FromFile().double.predict.sync([[1, 2, 3]]).tolist() == [[2, 4, 6]]
    with pytest.raises(TargetError, match=r'^"lprnet" is the name of a model in an engine, and .*; serve it'):
        Plates().named.predict(X)


def test_a_stand_in_takes_the_place_of_a_handle() -> None:
    class StandIn:
        async def predict(self, x: Any) -> Any:
            return -x

    plates: Any = Plates()
    plates.named = StandIn()
    assert asyncio.run(plates.named.predict(X)).tolist() == [[-1, -2]]


def test_an_image_fits_a_model_of_this_process() -> None:
    @samovar.model
    class Mean:
        def predict(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "1"]:
            return np.array([image.mean()], np.float32)

    class User:
        mean = samovar.use(Mean)

    assert User().mean.predict.sync(np.full((2, 2, 3), 8, np.uint8)).tolist() == [8]
