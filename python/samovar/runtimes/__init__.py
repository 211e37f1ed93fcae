"""Adapters between formats and the engine, one module per format.

Each has four parts: `recognise` a path, `inspect` it (which models it has, without loading them), `load` a version, and
`predict` on what `load` returns.
"""

from collections.abc import Awaitable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from samovar.errors import TargetError

__all__ = ["Arrays", "LoadedModel", "Runtime", "runtime_for", "runtime_named"]

Arrays = Sequence[Any]

_MODULES = {"python": "samovar.runtimes.python"}


class LoadedModel(Protocol):
    """A version in memory."""

    is_async: bool

    def start(self) -> Awaitable[None] | None:
        """Run the user's load; an awaitable if that is async. Raises LoadError."""

    def predict(self, inputs: Arrays) -> Any:
        """Run one call on arrays in the order of the signature; its outputs, or an awaitable of them if `is_async`.

        Raises OutputError for a result that has not the shape of the signature, and whatever user code raises.
        """

    def close(self) -> Awaitable[None] | None:
        """Run the user's unload; an awaitable if that is async. Raises LoadError."""


class Runtime(Protocol):
    """The functions of a runtime module."""

    def recognise(self, path: Path) -> bool:
        """True if this path is of the runtime's format."""

    def inspect(self, path: Path, name: str | None) -> list[dict[str, Any]]:
        """Describe the models at `path`, or only the one called `name`. Raises TargetError."""

    def load(self, spec: dict[str, Any]) -> LoadedModel:
        """Make a model of a version's specification; its `start` is still to be called. Raises LoadError."""


def runtime_named(name: str) -> Runtime:
    """The runtime of this name."""
    return import_module(_MODULES[name])


def runtime_for(path: Path) -> Runtime:
    """The runtime that recognises `path`. Raises TargetError."""
    for name in _MODULES:
        runtime = runtime_named(name)
        if runtime.recognise(path):
            return runtime
    raise TargetError(f"{path.name} has no format that is served", "give a Python file (.py) with decorated classes")
