"""Samples of a warm-up: which there are, at which sizes, and what becomes of those that fail."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samovar.errors import LoadError
from samovar.types import Datatype, Signature, TensorSpec
from samovar.worker import warm_up
from samovar.worker.warm_up import WarmUp, batch_sizes, warm_up_of

Samples = Callable[[], Any] | None
PAIR = (TensorSpec("x", Datatype.FP32, (2,)), TensorSpec("words", Datatype.BYTES, (-1,)))


class Model:
    """Notes the inputs of its calls and gives the first of them."""

    is_async = False

    def __init__(
        self, samples: Samples = None, *, is_user_code: bool = False, streams: bool = False, wrong: float | None = None
    ) -> None:
        self.samples, self.is_user_code, self.streams = samples, is_user_code, streams
        self.calls: list[list[np.ndarray]] = []
        self._wrong = wrong
        self.closed = 0

    def start(self) -> None:
        raise AssertionError

    close = start

    def predict(self, inputs: Sequence[Any]) -> Any:
        self.calls.append(list(inputs))
        if len(inputs[0]) == self._wrong:
            raise ValueError("of a size that I do not like")
        return self._stream(inputs) if self.streams else [inputs[0]]

    def _stream(self, inputs: Sequence[Any]) -> Iterator[list[Any]]:
        try:
            while True:
                yield [inputs[0]]
        finally:
            self.closed += 1

    @property
    def rows(self) -> list[int]:
        return [len(inputs[0]) for inputs in self.calls]


def spec(inputs: Sequence[TensorSpec] = PAIR[:1], *, batch_axis: bool = True, **options: Any) -> dict[str, Any]:
    outputs = (TensorSpec("y", Datatype.FP32, (2,)),)
    said = {"max_batch_size": 6, "writable_inputs": False, "worker": "own", "warm_up": None, **options}
    return {
        "name": "m",
        "source": {"path": str(Path(__file__))},
        "options": said,
        **Signature(tuple(inputs), outputs, batch_axis).to_json(),
    }


def run(specification: dict[str, Any], model: Model) -> Any:
    found = warm_up_of(specification, model)
    assert found is not None
    return found.run()


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64]), (3, [1, 2, 3])]
)
def test_batches_have_every_power_of_two_and_the_largest_size(most: int, sizes: list[int]) -> None:
    assert batch_sizes(most) == sizes


def test_zeros_have_datatypes_and_shapes_of_the_signature() -> None:
    model = Model()
    assert run(spec(PAIR), model) is None
    assert model.rows == [1, 2, 4, 6]
    x, words = model.calls[-1]
    assert (x.dtype.name, x.tolist()) == ("float32", [[0, 0]] * 6)
    assert (words.dtype.name, words.tolist()) == ("object", [[b""]] * 6)
    assert not x.flags.writeable


def test_inputs_can_be_written_where_the_model_writes() -> None:
    model = Model()
    run(spec(writable_inputs=True), model)
    assert all(x.flags.writeable for (x,) in model.calls)


@pytest.mark.parametrize(
    "sample",
    [
        {"words": [["a", b"b"], ["c", "d"]], "x": np.ones((2, 2), np.float32)},
        (np.ones((2, 2), np.float32), np.array([[b"a", b"b"], [b"c", b"d"]], object)),
    ],
)
def test_a_sample_by_name_or_by_position_is_repeated_to_each_size(sample: Any) -> None:
    model = Model(lambda: sample, is_user_code=True)
    assert run(spec(PAIR, max_batch_size=3), model) is None
    assert model.rows == [1, 2, 3]
    assert model.calls[-1][1].tolist() == [[b"a", b"b"], [b"c", b"d"], [b"a", b"b"]]


def test_a_list_is_many_samples_and_none_is_no_sample() -> None:
    model = Model(lambda: [np.ones((1, 2), np.float32), ([[3, 4]],)])
    run(spec(max_batch_size=2), model)
    assert [x.tolist() for (x,) in model.calls] == [[[1, 1]], [[1, 1], [1, 1]], [[3, 4]], [[3, 4], [3, 4]]]
    model = Model(lambda: None)
    assert run(spec(), model) is None
    assert model.calls == []


def test_without_a_batch_axis_each_sample_runs_once() -> None:
    model = Model(lambda: np.ones(2, np.float32))
    assert run(spec(batch_axis=False, max_batch_size=1), model) is None
    assert [x.tolist() for (x,) in model.calls] == [[1, 1]]


def test_of_a_stream_the_first_part_is_taken() -> None:
    model = Model(lambda: np.ones((1, 2), np.float32), streams=True)
    assert run(spec(), model) is None
    assert (model.rows, model.closed) == ([1], 1)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (Model(is_user_code=True), None),
        (Model(is_user_code=True), False),
        (Model(lambda: 1, is_user_code=True), False),
        (Model(), False),
    ],
)
def test_nothing_runs_that_was_not_asked_for(model: Model, wanted: bool | None) -> None:
    assert warm_up_of(spec(warm_up=wanted), model) is None


@pytest.mark.parametrize("unknown", [TensorSpec("z", None, (1,)), TensorSpec("z", Datatype.FP32, None)])
def test_there_are_no_zeros_of_what_is_not_known(unknown: TensorSpec) -> None:
    assert warm_up_of(spec([PAIR[0], unknown]), Model()) is None
    with pytest.raises(LoadError) as caught:
        warm_up_of(spec([PAIR[0], unknown], warm_up=True), Model())
    assert str(caught.value) == (
        'warm_up = true is set, but nobody says datatype and shape of input "z"; '
        "declare them, give samples in a method warm_up, or set warm_up = false"
    )


def test_zeros_that_fail_end_the_warm_up_with_a_note() -> None:
    model = Model(wrong=2)
    assert run(spec(), model) == (
        "the warm-up with zeros in a batch of 2 failed: ValueError: of a size that I do not like; requests are served, "
        "give samples in a method warm_up or set warm_up = false"
    )
    assert model.rows == [1, 2]


def test_a_sample_that_fails_fails_the_load() -> None:
    with pytest.raises(LoadError) as caught:
        run(spec(), Model(lambda: np.ones((1, 2), np.float32), wrong=4))
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "raise ValueError" in text)
    assert str(caught.value) == (
        "a sample of warm_up in a batch of 4 failed: ValueError: of a size that I do not like; "
        f"see test_warm_up.py, line {line}, or set warm_up = false"
    )


def test_outputs_that_no_client_would_get_fail_too() -> None:
    wide = {**spec(), "outputs": [TensorSpec("y", Datatype.FP32, (3,)).to_json()]}
    with pytest.raises(LoadError, match=r'^a sample of warm_up in a batch of 1 failed: output "y" of model "m": shape'):
        run(wide, Model(lambda: np.ones((1, 2), np.float32)))


@pytest.mark.parametrize(("worker", "rows"), [("own", [1, 2, 4, 8]), ("shared", [1])])
def test_zeros_end_when_the_next_batch_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch, worker: str, rows: list[int]
) -> None:
    """Of 0.1 s per row; 16 rows would end after 3.1 s, and in a shared worker two after 0.3 s."""
    model = Model()
    specification = spec(max_batch_size=64, worker=worker)
    signature = Signature.from_json(specification)
    monkeypatch.setattr(warm_up, "_peak_bytes", lambda: 0)
    note = WarmUp(specification, signature, model, None, clock=lambda: sum(model.rows) * 0.1).run()
    assert model.rows == rows
    seconds, following = sum(rows) * 0.1, rows[-1] * 2
    assert note == f"the warm-up with zeros ended after {seconds:.1f} s and 0 MiB, before batches of {following} rows"


def test_zeros_end_when_the_next_batch_would_take_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 MiB per row: four have taken 160."""
    model = Model()
    monkeypatch.setattr(warm_up, "_peak_bytes", lambda: max(model.rows, default=0) * 40 << 20)
    note = run(spec(max_batch_size=64), model)
    assert model.rows == [1, 2, 4]
    assert str(note).endswith("and 160 MiB, before batches of 8 rows")
