"""Handles: how a service, or a model that uses others, calls a model.

`await h.predict(x)` or `h.predict.sync(x)`; where the model streams, `async for part in h.predict(x)` or
`for part in h.predict.sync(x)`. In a worker a handle leads through the engine, elsewhere to an object of this process.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, Self

from samovar.errors import TargetError
from samovar.service.steps import Caller, Step, set_caller

__all__ = ["Caller", "Handle", "Parts", "Predict", "Route", "Run", "Step", "Whole", "set_caller"]


class Run(Protocol):
    """One call of a model, in the four ways that a handle can be asked for it; it begins when it is waited for."""

    async def whole(self) -> Any:
        """The result."""

    def whole_sync(self) -> Any:
        """The result, when this thread has waited for it."""

    def parts(self) -> AsyncGenerator[Any, None]:
        """The parts of a stream."""

    def parts_sync(self) -> Iterator[Any]:
        """The parts of a stream; this thread waits for each."""


class Route(Protocol):
    """The way to a model: through the engine, or to an object of this process."""

    @property
    def name(self) -> str:
        """The name of the model."""

    @property
    def streams(self) -> bool:
        """True where its predict yields."""

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Run:
        """A call with these arguments. Raises InputError where they do not fit."""


class Handle:
    """A model, as what uses it sees it."""

    def __init__(self, find: Callable[[], Route]) -> None:
        self.predict = Predict(find)


class Predict:
    """The predict of another model: arguments by position or name, as in its own signature.

    Lists and numbers get the dtype that it declares, an image of Pillow becomes uint8 (height, width, 3); an array must
    have the dtype. One output is its array, several are one object with their names; arrays are read-only views.
    Raises InputError for arguments that do not fit and, when it is waited for, StepError.
    """

    def __init__(self, find: Callable[[], Route]) -> None:
        self._find = find

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What is to be awaited (Whole), or iterated where the model streams (Parts); the call begins then."""
        route = self._find()
        run = route.run(args, kwargs)
        return Parts(route.name, run) if route.streams else Whole(route.name, run)

    def sync(self, *args: Any, **kwargs: Any) -> Any:
        """The result, or an iterator of parts where the model streams; for methods that are not async."""
        route = self._find()
        run = route.run(args, kwargs)
        return run.parts_sync() if route.streams else run.whole_sync()


class Whole(Coroutine[Any, Any, Any]):
    """A call whose result is awaited, once; all that takes coroutines takes it too."""

    def __init__(self, model: str, run: Run) -> None:
        self._model = model
        work: Any = run.whole()
        work.__qualname__ = f"{model}.predict"  # in Python's warning when nobody awaits it
        self._work: Coroutine[Any, Any, Any] = work

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()

    def send(self, value: Any) -> Any:
        """As of every coroutine."""
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        """As of every coroutine."""
        return self._work.throw(*error)

    def close(self) -> None:
        """As of every coroutine."""
        self._work.close()

    def __aiter__(self) -> NoReturn:
        self.close()
        raise TargetError(
            f"step {self._model}.predict does not stream", "await it; only a predict that yields has parts"
        )

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f'step {self._model}.predict was not awaited when its "{name}" was asked for; await it first'
        )

    def __getitem__(self, _: Any) -> NoReturn:
        raise self._unawaited()

    def __iter__(self) -> NoReturn:
        raise self._unawaited()

    def _unawaited(self) -> TypeError:
        self.close()  # else Python warns, at some later moment, that nobody awaited it
        return TypeError(f"step {self._model}.predict was not awaited when its elements were asked for; await it first")


class Parts(AsyncIterator[Any]):
    """A call whose parts come one by one; the call ends with the loop over them, also where that is left early."""

    def __init__(self, model: str, run: Run) -> None:
        self._model = model
        self._parts = run.parts()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._parts)

    async def aclose(self) -> None:
        """End the call."""
        await self._parts.aclose()

    def __await__(self) -> NoReturn:
        raise TargetError(f"step {self._model}.predict streams", "write async for part in it, without await")

    def __iter__(self) -> NoReturn:
        raise TargetError(
            f"step {self._model}.predict streams", "write async for part in it, or for part in predict.sync(...)"
        )
