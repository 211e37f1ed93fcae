"""Models that yield: how they are described, and what their parts are."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samovar.config import Configuration, ServerConfig
from samovar.errors import ConfigError, OutputError
from samovar.runtimes import Question
from samovar.runtimes.python import inspect, load

Program = Callable[..., Path]

TOKENS = """
from collections.abc import AsyncIterator, Generator, Iterator
seen = []

class Token(NamedTuple):
    token: samovar.Bytes[np.ndarray, ""]
    score: Float32[np.ndarray, "batch 4"]

@samovar.model
class M:
    KEYWORD predict(self, x: Float32[np.ndarray, "batch 4"]) -> RETURNS:
        try:
            BODY
        finally:
            seen.append("ended")
"""
WHOLE = 'yield Token("ab", x); yield Token(b"c\\0", x[:1])'


def text(body: str = WHOLE, returns: str = "Iterator[Token]", keyword: str = "def") -> str:
    return TOKENS.replace("BODY", body).replace("RETURNS", returns).replace("KEYWORD", keyword)


def loaded(path: Path) -> Any:
    (model,) = inspect(Question(path))
    options = Configuration(ServerConfig()).model_options("m", model["options"], batch_axis=model["batch_axis"])
    assert options["max_batch_size"] == 1
    return load({**model, "options": options})


@pytest.mark.parametrize(
    ("keyword", "returns"),
    [
        ("def", "Iterator[Token]"),
        ("def", "Generator[Token, None, None]"),
        ("async def", "AsyncIterator[Token]"),
        ("async def", '"AsyncIterator[Token]"'),
    ],
)
def test_a_predict_that_yields_is_described_by_its_parts_joined(program: Program, keyword: str, returns: str) -> None:
    (model,) = inspect(Question(program(text(returns=returns, keyword=keyword))))
    assert model["streams"]
    assert not model["batch_axis"], "each request runs alone"
    assert model["source"]["is_async"] == (keyword == "async def")
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "dims": [-1, 4]}]
    assert model["outputs"] == [
        {"name": "token", "datatype": "BYTES", "dims": [-1]},
        {"name": "score", "datatype": "FP32", "dims": [-1, 4]},
    ]


def test_parts_are_split_and_have_an_axis_to_be_joined_along(program: Program) -> None:
    import numpy as np

    model = loaded(program(text()))
    x = np.ones((2, 4), np.float32)
    assert (model.streams, model.is_async) == (True, False)
    parts = list(model.predict([x]))
    assert [(token.tolist(), score.shape) for token, score in parts] == [(["ab"], (2, 4)), ([b"c\0"], (1, 4))]


def test_a_stream_that_is_closed_ends_the_users_generator(program: Program) -> None:
    path = program(text())
    parts = loaded(path).predict([[1]])
    next(parts)
    seen = __import__("served_program").seen
    assert seen == []
    parts.close()
    assert seen == ["ended"]


def test_an_asynchronous_stream_runs_in_the_event_loop_and_ends_with_it(program: Program) -> None:
    model = loaded(program(text(returns="AsyncIterator[Token]", keyword="async def")))
    seen = __import__("served_program").seen

    async def run() -> None:
        parts = model.predict([[1]])
        await anext(parts)
        await parts.aclose()

    assert (model.streams, model.is_async) == (True, True)
    asyncio.run(run())
    assert seen == ["ended"]


def test_a_part_of_another_type_is_refused(program: Program) -> None:
    with pytest.raises(OutputError, match=r"^M.predict yielded list; yield the Token that it declares$"):
        next(loaded(program(text("yield [1]"))).predict([[1]]))


def test_what_streams_takes_no_batches_but_may_run_several_calls_if_async(program: Program) -> None:
    asynchronous = text(returns="AsyncIterator[Token]", keyword="async def")
    several = asynchronous.replace("@samovar.model", "@samovar.model(concurrency=8)")
    assert inspect(Question(program(several)))[0]["options"] == {"concurrency": 8}
    batched = text().replace("@samovar.model", "@samovar.model(max_batch_size=8)")
    with pytest.raises(
        ConfigError, match=r"^max_batch_size = 8 is set for class M, whose predict yields; leave it out"
    ):
        inspect(Question(program(batched, "batched.py")))


CONTEXT = """
@samovar.model
class M:
    def predict(self, x: Float32[np.ndarray, "batch 2"], context: samovar.Context,
                *, y: Float32[np.ndarray, "batch 2"]) -> Float32[np.ndarray, "batch 2"]:
        seen.append((context.id, context.parameters, context.logger.name))
        return x - y
seen = []
"""


def test_a_context_is_no_input_and_is_that_of_the_running_call(program: Program) -> None:
    from samovar.context import Tag, running
    from unit.python.test_context import FakeCall

    path = program(CONTEXT)
    (described,) = inspect(Question(path))
    assert [tensor["name"] for tensor in described["inputs"]] == ["x", "y"]
    model = load({**described, "name": "stn", "options": {"concurrency": 1}})
    assert model.predict([5, 3]) == (2,)
    token = running.set(Tag(FakeCall()))
    try:
        assert model.predict([5, 3]) == (2,)
    finally:
        running.reset(token)
    seen = __import__("served_program").seen
    assert seen == [("", {}, "samovar.stn"), ("one", {"seed": 7}, "samovar.stn")]
