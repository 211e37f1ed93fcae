"""What is read from a Python file, and what its author is told when it cannot be served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samovar.config.declared import Declared, DeclaredTensor
from samovar.errors import ConfigError, TargetError
from samovar.runtimes import Question
from samovar.runtimes.python import inspect

Program = Callable[..., Path]


def described(path: Path, name: str | None = None) -> dict[str, Any]:
    (description,) = inspect(Question(path, name))
    return description


def test_a_typed_class_is_described_whole(program: Program) -> None:
    path = program("""
        @samovar.model(max_batch_size=32)
        class LprNet:
            def predict(self, plates: Float32[np.ndarray, "batch 3 24 width"]) -> Int32[np.ndarray, "batch 18"]: ...
    """)
    assert inspect(Question(path)) == [
        {
            "name": "lpr_net",
            "version": "1",
            "runtime": "python",
            "source": {"path": str(path), "class": "LprNet", "is_async": False, "uses": {}},
            "inputs": [{"name": "plates", "datatype": "FP32", "dims": [3, 24, -1]}],
            "outputs": [{"name": "output", "datatype": "INT32", "dims": [18]}],
            "batch_axis": True,
            "streams": False,
            "service": None,
            "options": {"max_batch_size": 32},
            "imports": ["numpy"],
        }
    ]


def test_annotations_may_be_texts(program: Program) -> None:
    text = """
        from __future__ import annotations
        import numpy as np, samovar
        from jaxtyping import Float32

        @samovar.model
        class Late:
            def predict(self, x: Float32[np.ndarray, "batch 2"]) -> samovar.Bytes[np.ndarray, "batch 1"]: ...
    """
    found = described(program(text, preamble=""))
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "dims": [2]}]
    assert found["outputs"] == [{"name": "output", "datatype": "BYTES", "dims": [1]}]


@pytest.mark.parametrize(
    "outputs",
    [
        "class Found(NamedTuple):\n    {0}\n    {1}",
        "@dataclasses.dataclass\nclass Found:\n    {0}\n    {1}",
    ],
)
def test_fields_of_the_return_type_name_the_outputs(program: Program, outputs: str) -> None:
    fields = ('boxes: Float32[np.ndarray, "batch n 4"]', 'scores: BFloat16[np.ndarray, "batch n"]')
    text = (
        outputs.format(*fields)
        + """

@samovar.model
class Detector:
    def predict(self, x: UInt8[np.ndarray, "batch 4"]) -> Found: ...
"""
    )
    assert described(program(text))["outputs"] == [
        {"name": "boxes", "datatype": "FP32", "dims": [-1, 4]},
        {"name": "scores", "datatype": "BF16", "dims": [-1]},
    ]


def test_without_a_batch_axis_every_axis_is_the_models_own(program: Program) -> None:
    found = described(
        program("""
            @samovar.model
            class Sum:
                def predict(
                    self, x: Float32[np.ndarray, "rows=4 _"], y: Float32[np.ndarray, ""]
                ) -> Float32[np.ndarray, ""]: ...
        """)
    )
    assert not found["batch_axis"]
    assert [spec["dims"] for spec in found["inputs"] + found["outputs"]] == [[4, -1], [], []]


def test_static_methods_keyword_parameters_and_async_predict_are_served(program: Program) -> None:
    text = """
        Array = Float32[np.ndarray, "batch 1"]

        @samovar.model
        class Static:
            @staticmethod
            def predict(x: Array, *, y: Array) -> Array: ...

        @samovar.model(concurrency=8)
        class Later:
            async def predict(self, x: Array) -> Array: ...
    """
    static, later = inspect(Question(program(text)))
    assert [spec["name"] for spec in static["inputs"]] == ["x", "y"]
    assert later["source"]["is_async"]
    assert later["options"] == {"concurrency": 8}


def test_one_class_can_be_picked(program: Program) -> None:
    text = """
        Array = Float32[np.ndarray, "batch 1"]

        @samovar.model
        class One:
            def predict(self, x: Array) -> Array: ...

        @samovar.model(name="second", version=7)
        class Two(One):
            pass
    """
    path = program(text)
    assert [found["name"] for found in inspect(Question(path))] == ["one", "second"]
    assert (described(path, "Two")["name"], described(path, "Two")["version"]) == ("second", "7")


GOOD = 'Float32[np.ndarray, "batch 3"]'
EXAMPLE = 'write for instance Float32[np.ndarray, "batch 3"]'
DTYPES = (
    "choose one of Bool, UInt8, UInt16, UInt32, UInt64, Int8, Int16, Int32, Int64, Float16, BFloat16, Float32, Float64 "
    "(of jaxtyping), or samovar.Bytes"
)


def method(parameters: str, returns: str = GOOD, before: str = "") -> str:
    return f"@samovar.model\nclass M:\n    {before}def predict(self{parameters}) -> {returns}: ...\n"


BAD: dict[str, tuple[str, str]] = {
    "no annotation": (
        method(", x"),
        'parameter "x" of M.predict has no annotation; write for instance x: Float32[np.ndarray, "batch 3"]',
    ),
    "plain array": (
        method(", x: np.ndarray"),
        f'parameter "x" of M.predict is a plain np.ndarray, which says neither dtype nor shape; {EXAMPLE}',
    ),
    "no array": (method(", x: int"), f'parameter "x" of M.predict is int, no typed array; {EXAMPLE}'),
    "optional array": (
        method(f", x: {GOOD} | None"),
        "parameter \"x\" of M.predict is jaxtyping.Float32[ndarray, 'batch 3'] | None, no typed array; " + EXAMPLE,
    ),
    "several dtypes": (
        method(', x: Float[np.ndarray, "batch 3"]'),
        f'parameter "x" of M.predict is Float, which names several dtypes; {DTYPES}',
    ),
    "any number": (
        method(', x: Num[np.ndarray, "batch 3"]'),
        f'parameter "x" of M.predict is Num, which names several dtypes; {DTYPES}',
    ),
    "another array type": (
        method(', x: Float32[object, "batch 3"]'),
        (
            'parameter "x" of M.predict is an array of object; methods get and return numpy arrays; write np.ndarray '
            "there and convert inside the method (torch.from_dlpack(x), for instance)"
        ),
    ),
    "variadic axis": (
        method(', x: Float32[np.ndarray, "batch *rest"]'),
        (
            'parameter "x" of M.predict has the axis "*rest", which a signature cannot say; write a number for a '
            "fixed length, or a name for any length"
        ),
    ),
    "dots": (
        method(', x: Float32[np.ndarray, "..."]'),
        (
            'parameter "x" of M.predict has the axis "...", which a signature cannot say; write a number for a fixed '
            "length, or a name for any length"
        ),
    ),
    "expression": (
        method(', x: Float32[np.ndarray, "batch n+1"]'),
        (
            'parameter "x" of M.predict has the axis "n+1", which a signature cannot say; write a number for a fixed '
            "length, or a name for any length"
        ),
    ),
    "batch not first": (
        method(', x: Float32[np.ndarray, "3 batch"]'),
        'parameter "x" of M.predict has "batch" as axis 1; make it the first axis',
    ),
    "batch on some": (
        method(f', x: {GOOD}, y: Float32[np.ndarray, "3"]'),
        (
            'M.predict has a batch axis, but "y" has none; make "batch" the first axis of every input and output, or '
            "of none"
        ),
    ),
    "no return annotation": (
        f"@samovar.model\nclass M:\n    def predict(self, x: {GOOD}): ...\n",
        'the return value of M.predict has no annotation; write for instance -> Float32[np.ndarray, "batch 3"]',
    ),
    "tuple": (
        method(f", x: {GOOD}", "tuple"),
        (
            "the return value of M.predict is tuple, which names no outputs; return a NamedTuple or dataclass whose "
            "fields are the outputs"
        ),
    ),
    "no inputs": (
        method(""),
        'M.predict takes no inputs; give it a parameter, for instance x: Float32[np.ndarray, "batch 3"]',
    ),
    "star": (
        method(f", *xs: {GOOD}"),
        "M.predict takes *xs; name each input as a parameter of its own",
    ),
    "double star": (
        method(f", **xs: {GOOD}"),
        "M.predict takes **xs; name each input as a parameter of its own",
    ),
    "default": (
        method(f", x: {GOOD} = None"),
        (
            'parameter "x" of M.predict has a default, but every input is sent with a request; remove the default, '
            "or set the value in load"
        ),
    ),
    "generator": (
        f"@samovar.model\nclass M:\n    def predict(self, x: {GOOD}) -> {GOOD}:\n        yield x\n",
        (
            "M.predict yields, but its return annotation is no Iterator of parts; write for instance "
            '-> Iterator[Float32[np.ndarray, "batch 3"]]'
        ),
    ),
    "asynchronous generator": (
        (
            f"from typing import Iterator\n@samovar.model\nclass M:\n"
            f"    async def predict(self, x: {GOOD}) -> Iterator[{GOOD}]:\n        yield x\n"
        ),
        (
            "M.predict yields, but its return annotation is no AsyncIterator of parts; write for instance "
            '-> AsyncIterator[Float32[np.ndarray, "batch 3"]]'
        ),
    ),
    "iterator that is no generator": (
        "from typing import Iterator\n" + method(f", x: {GOOD}", f"Iterator[{GOOD}]"),
        (
            "M.predict is annotated to return an iterator, but does not yield; yield the parts in it, or return the "
            "whole arrays"
        ),
    ),
    "parts without a type": (
        (
            f"from typing import Iterator\n@samovar.model\nclass M:\n"
            f"    def predict(self, x: {GOOD}) -> Iterator[list]:\n        yield x\n"
        ),
        (
            "what M.predict yields is list, which names no outputs; return a NamedTuple or dataclass whose fields are "
            "the outputs"
        ),
    ),
    "no predict": (
        "@samovar.model\nclass M:\n    pass\n",
        (
            'class M has no predict method; add: def predict(self, x: Float32[np.ndarray, "batch 3"]) -> '
            'Float32[np.ndarray, "batch 3"]'
        ),
    ),
    "constructor with arguments": (
        method(f", x: {GOOD}", before="def __init__(self, weights, *more, scale=1): ...\n    "),
        "class M needs arguments to be made: weights; give them defaults, or set them in a load method",
    ),
    "blocking predict with concurrency": (
        method(f", x: {GOOD}").replace("model", "model(concurrency=2)"),
        (
            "class M has concurrency = 2, but its predict is not async; write async def predict, or use instances to "
            "run several copies"
        ),
    ),
    "nothing decorated": (
        method(f", x: {GOOD}").replace("@samovar.model", "") + "class Other: ...\n",
        (
            "served_program.py has no model: its classes are M, Other, none of them decorated; write @samovar.model "
            "above class M"
        ),
    ),
    "empty": (
        "",
        "served_program.py has no model: it defines no class; write @samovar.model above a class with predict",
    ),
    "same name twice": (
        method(f", x: {GOOD}")
        + method(f", x: {GOOD}").replace("class M", "class N").replace("model", "model(name='m')"),
        'classes M and N of served_program.py are both "m" version "1"; rename one with name=... in its decorator',
    ),
    "names of type checking": (
        method(", x: 'Unknown'"),
        (
            "the annotations of M cannot be evaluated: name 'Unknown' is not defined; import what they name at run "
            "time, not under TYPE_CHECKING"
        ),
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_served_is_told_with_its_cure(program: Program, text: str, message: str) -> None:
    with pytest.raises(TargetError) as caught:
        inspect(Question(program(text)))
    assert str(caught.value) == message


def test_a_picked_class_must_be_there_and_decorated(program: Program) -> None:
    path = program("@samovar.model\nclass M: ...\nclass Plain: ...\n")
    with pytest.raises(TargetError, match=r'^served_program.py has no class "N"; its models and services are: M$'):
        inspect(Question(path, "N"))
    with pytest.raises(
        TargetError, match=r'^"Plain" in served_program.py is neither model nor service; write @samovar.model'
    ):
        inspect(Question(path, "Plain"))


ONE = """
@samovar.model(instances=2, concurrency=1)
class M:
    def predict(self, x: Float32[np.ndarray, "batch 2"]) -> Float32[np.ndarray, "batch 2"]: ...
"""


def test_a_folder_gives_the_name_and_its_file_overrides_the_decorator(program: Program) -> None:
    declared = Declared({"instances": 3, "max_batch_size": 8})
    (found,) = inspect(Question(program(ONE), name="stn", version="7", declared=declared))
    assert (found["name"], found["version"]) == ("stn", "7")
    assert found["options"] == {"instances": 3, "concurrency": 1, "max_batch_size": 8}


def test_a_question_survives_its_json(tmp_path: Path) -> None:
    declared = Declared({"instances": 3}, inputs=(DeclaredTensor("x", None, ("batch", 3)),), batch_axis=False)
    question = Question(tmp_path / "a.onnx", name="stn", version="7", declared=declared)
    assert Question.from_json(question.to_json()) == question


def test_a_folder_cannot_name_two_classes(program: Program) -> None:
    path = program(ONE + ONE.replace("class M", "class N"))
    with pytest.raises(TargetError) as caught:
        inspect(Question(path, name="stn"))
    assert str(caught.value) == (
        f'{path} is model "stn" of its folder, but has 2: M, N; keep one decorated class in it'
    )


def test_what_a_class_says_itself_is_not_configured(program: Program) -> None:
    with pytest.raises(ConfigError) as caught:
        inspect(Question(program(ONE), declared=Declared(batch_axis=True)))
    assert str(caught.value) == (
        'samovar.toml sets "batch_axis" of class M, whose annotations say it; remove it from there'
    )
