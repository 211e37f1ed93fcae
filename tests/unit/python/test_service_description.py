"""What a service class offers, as data; and what its author is told when it cannot be served."""

import dataclasses
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator  # noqa: F401 - of the texts below
from pathlib import Path  # noqa: F401
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
from jaxtyping import Float, Float32, UInt8  # noqa: F401
from pydantic import BaseModel, Field

import samovar
from samovar.errors import SamovarError, TargetError
from samovar.service.describe import describe


async def application(scope: Any, receive: Any, send: Any) -> None: ...


class Found(NamedTuple):
    labels: samovar.Bytes[np.ndarray, "n"]
    best: float


@dataclasses.dataclass
class Scored:
    scores: Float32[np.ndarray, "n 2"]


def test_routes_mounts_and_tensor_methods() -> None:
    @samovar.service
    class Plates:
        """Reads plates.

        All of them.
        """

        samovar.mount("/ui", application)

        @samovar.api
        async def find(self, crops: Float32[np.ndarray, "batch 3"], limit: int, deep: bool = False) -> Found:
            raise NotImplementedError

        @samovar.api(idempotent=True)
        def score(self, text: Annotated[str, Field(min_length=1)], context: samovar.Context) -> Scored:
            raise NotImplementedError

        @samovar.api(path="/plates/by/{key}", method="GET")
        def get(self, key: str) -> dict[str, int]:
            raise NotImplementedError

        @samovar.api
        def stream(self, x: int) -> Iterator[int]:
            yield x

        @samovar.api
        def image(self, image: samovar.Image) -> int:
            raise NotImplementedError

        @samovar.api
        def optional(self, x: int | None) -> int:
            raise NotImplementedError

    found = describe(Plates, "lpr")
    assert found["description"] == "Reads plates.\n\nAll of them."
    assert found["mounts"] == ["/lpr", "/ui"]
    assert found["routes"][:3] == [
        {"methods": ["POST"], "path": "/lpr/find", "idempotent": False},
        {"methods": ["POST"], "path": "/lpr/score", "idempotent": True},
        {"methods": ["GET", "HEAD"], "path": "/plates/by/{key}", "idempotent": True},
    ]
    assert found["methods"] == [
        {
            "name": "find",
            "inputs": [
                {"name": "crops", "datatype": "FP32", "dims": [-1, 3]},
                {"name": "limit", "datatype": "INT64", "dims": [1]},
                {"name": "deep", "datatype": "BOOL", "dims": [1]},
            ],
            "outputs": [
                {"name": "labels", "datatype": "BYTES", "dims": [-1]},
                {"name": "best", "datatype": "FP64", "dims": [1]},
            ],
        },
        {
            "name": "score",
            "inputs": [{"name": "text", "datatype": "BYTES", "dims": [1]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "dims": [-1, 2]}],
        },
    ]


def service_of(text: str) -> type:
    """The service class S with a method."""
    names: dict[str, Any] = dict(globals())
    exec(f"class S:\n{textwrap.indent(textwrap.dedent(text), '    ')}", names)
    made: type = samovar.service(names["S"])
    return made


WRONG = {
    """
        @samovar.api
        def find(self, x) -> int: ...
    """: 'parameter "x" of S.find has no annotation; write for instance x: str, x: samovar.Image',
    """
        @samovar.api
        def find(self, x: int): ...
    """: "S.find has no return annotation; write for instance -> dict[str, float], or -> None",
    """
        @samovar.api
        def find(self, *parts: int) -> int: ...
    """: "S.find takes *parts; name each input as a parameter of its own",
    """
        @samovar.api
        def find(self, **parts: int) -> int: ...
    """: "S.find takes **parts; name each input as a parameter of its own",
    """
        @samovar.api
        def find() -> int: ...
    """: "S.find has no self; write def find(self, ...)",
    """
        @samovar.api
        def find(self, x: np.ndarray) -> int: ...
    """: (
        'parameter "x" of S.find is a plain np.ndarray, which says neither dtype nor shape; write for '
        'instance Float32[np.ndarray, "batch 3"]'
    ),
    """
        @samovar.api
        def find(self, x: Float[np.ndarray, "n"]) -> int: ...
    """: 'parameter "x" of S.find is Float, which names several dtypes; choose one of Bool, UInt8',
    """
        @samovar.api
        def find(self, x: slice) -> int: ...
    """: 'parameter "x" of S.find has a type that cannot be served: Unable to generate pydantic-core schema',
    """
        @samovar.api
        def find(self, x: Callable[[], int]) -> int: ...
    """: 'parameter "x" of S.find has a type that cannot be served: Cannot generate a JsonSchema for',
    """
        @samovar.api
        def find(self, x: Path) -> int: ...
    """: 'parameter "x" of S.find is a path; take a samovar.File: clients send files, not places',
    """
        @samovar.api
        def find(self, x: int) -> samovar.File: ...
    """: "the return value of S.find is an uploaded file; return bytes, or the pathlib.Path of a file",
    """
        @samovar.api
        def find(self, x: int) -> slice: ...
    """: "the return value of S.find has a type that cannot be served: Unable to generate",
    """
        @samovar.api
        def find(self, x: "Nowhere") -> int: ...
    """: "the annotations of S.find cannot be evaluated: name 'Nowhere' is not defined; import what",
    """
        @samovar.api
        def find(self, x: int) -> Iterator[int]: ...
    """: "S.find is annotated to return an iterator, but does not yield; yield the items in it",
    """
        @samovar.api
        def find(self, x: int) -> Float32[np.ndarray, "n"]:
            yield x
    """: "S.find yields, but its return annotation is no Iterator of items; write -> Iterator[...]",
    """
        @samovar.api
        async def find(self, x: int) -> Iterator[int]:
            yield x
    """: "S.find yields, but its return annotation is no AsyncIterator of items; write -> AsyncIterator[...]",
    """
        @samovar.api(method="GET")
        def find(self, image: samovar.Image) -> int: ...
    """: 'parameter "image" of S.find is a file, which no query has room for; take it in a body',
    """
        @samovar.api(path="/a/{kee}")
        def find(self, key: str) -> int: ...
    """: 'path "/a/{kee}" of S.find has {kee}, which is none of its parameters; its parameters',
    """
        @samovar.api(path="/a/{key}/{key}")
        def find(self, key: str) -> int: ...
    """: 'path "/a/{key}/{key}" of S.find has {key} twice; rename one',
    """
        @samovar.api(path="/s/docs")
        def find(self, key: str) -> int: ...
    """: "S.find answers at /s/docs, where the service's documentation stands; give it another",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_a_wrong_method_is_refused_with_the_cure(text: str, message: str) -> None:
    with pytest.raises(SamovarError) as caught:
        describe(service_of(text), "s")
    assert str(caught.value).startswith(message)


def test_an_empty_service_is_refused() -> None:
    with pytest.raises(TargetError) as caught:
        describe(samovar.service(type("S", (), {})), "s")
    assert str(caught.value) == (
        "service S serves nothing; write @samovar.api above a method, or samovar.mount(path, app) in its body"
    )


def test_two_methods_at_one_address_are_refused() -> None:
    @samovar.service
    class S:
        @samovar.api(path="/a/{x}")
        def one(self, x: str) -> None: ...

        @samovar.api(path="/a/{y}")
        def two(self, y: str) -> None: ...

    with pytest.raises(TargetError) as caught:
        describe(S, "s")
    assert str(caught.value) == (
        "S.one and S.two both answer POST /a/{y}; give one of them another path with @samovar.api(path=...)"
    )


def test_two_methods_of_one_name_are_refused() -> None:
    @samovar.service
    class S:
        @samovar.api
        def one(self) -> None: ...

        @samovar.api(name="one", path="/elsewhere")
        def two(self) -> None: ...

    with pytest.raises(TargetError, match=r'S\.one and S\.two are both called "one"; give one of them another name'):
        describe(S, "s")


def test_two_applications_at_one_path_are_refused() -> None:
    @samovar.service
    class S:
        samovar.mount("/ui", application)
        samovar.mount("/ui", application)

    with pytest.raises(TargetError, match='S mounts two applications at "/ui"; give one of them another path'):
        describe(S, "s")


def test_streams_and_models_of_pydantic_are_no_tensors() -> None:
    class Item(BaseModel):
        name: str

    @samovar.service
    class S:
        @samovar.api
        async def stream(self, x: float) -> AsyncIterator[float]:
            yield x

        @samovar.api
        def item(self, x: Item) -> float:
            raise NotImplementedError

        @samovar.api
        def nothing(self, x: float) -> None: ...

        @samovar.api
        def crops(self, x: UInt8[np.ndarray, "h w 3"]) -> list[float]:
            raise NotImplementedError

    assert describe(S, "s")["methods"] == []
