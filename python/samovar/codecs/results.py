"""What a caller gets of several outputs: one object that has them by name and in order."""

from collections import namedtuple
from collections.abc import Sequence
from functools import cache
from typing import Any

__all__ = ["result_of"]


def result_of(names: Sequence[str], values: Sequence[Any]) -> Any:
    """One output is its array, several are a named tuple; `result["scores:0"]` finds what is no attribute's name."""
    return values[0] if len(values) == 1 else _results(tuple(names))(*values)


@cache
def _results(names: tuple[str, ...]) -> Any:
    fields: Any = namedtuple("Results", names, rename=True)  # type: ignore[misc]  # noqa: PYI024 - known at run time only

    class Results(fields):
        __slots__ = ()

        def __getitem__(self, key: Any) -> Any:
            if isinstance(key, str) and key not in names:
                raise KeyError(key)
            return super().__getitem__(names.index(key) if isinstance(key, str) else key)

    return Results
