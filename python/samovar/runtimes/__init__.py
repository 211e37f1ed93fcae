"""Adapters between formats and the engine, one module per format.

Each has four parts: `recognise` a path, `inspect` it (which models it has, without loading them), `load` a version, and
`predict` on what `load` returns.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from samovar.config.declared import Declared, read_declared
from samovar.errors import TargetError

__all__ = ["RUNTIMES", "Arrays", "LoadedModel", "Question", "Runtime", "runtime_for", "runtime_named"]

Arrays = Sequence[Any]

_MODULES = {
    "python": "samovar.runtimes.python",
    "onnx": "samovar.runtimes.onnx",
    "torchscript": "samovar.runtimes.torchscript",
}
RUNTIMES = tuple(_MODULES)
_SERVICE = "samovar.runtimes.python.serving"  # recognises no file: those of services are Python's


@dataclass(frozen=True)
class Question:
    """Which models a path has: what a worker is asked by the verb `describe`.

    `class_name` picks one class of a Python file. `name` and `version` are those that a repository's folders give, and
    `declared` is what samovar.toml says: they stand above what the file itself says.
    """

    path: Path
    class_name: str | None = None
    name: str | None = None
    version: str | None = None
    declared: Declared = field(default_factory=Declared)

    def to_json(self) -> dict[str, Any]:
        """The body of the verb."""
        return {**vars(self), "path": str(self.path), "declared": self.declared.to_json()}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "Question":
        """The reverse of `to_json`."""
        declared = read_declared(body["declared"], f"of {body['path']}")
        return cls(Path(body["path"]), body["class_name"], body["name"], body["version"], declared)


class LoadedModel(Protocol):
    """A version in memory.

    `samples` gives what the model's own `warm_up` does, or an awaitable of that; None where it has none. What
    `is_user_code` may have effects, and runs for requests and its own samples alone unless somebody asks for more.
    """

    is_async: bool
    streams: bool
    is_user_code: bool
    samples: Callable[[], Any] | None

    def start(self) -> Awaitable[None] | None:
        """Run the user's load; an awaitable if that is async. Raises LoadError."""

    def predict(self, inputs: Arrays) -> Any:
        """Run one call on arrays in the order of the signature; its outputs, or an awaitable of them if `is_async`.

        If it `streams`, a generator of the outputs of each part, an asynchronous one if `is_async`; to close it ends
        the user's. Raises OutputError for a result that has not the shape of the signature, and whatever user code
        raises.
        """

    def close(self) -> Awaitable[None] | None:
        """Run the user's unload; an awaitable if that is async. Raises LoadError."""


class Runtime(Protocol):
    """The functions of a runtime module.

    `IMPORTS` are the modules that its models need at a load: a spare worker imports them ahead.
    """

    IMPORTS: tuple[str, ...]

    def recognise(self, path: Path) -> bool:
        """True if this path is of the runtime's format."""

    def inspect(self, question: Question) -> list[dict[str, Any]]:
        """Describe the models at a path, one object each. Raises TargetError or ConfigError.

        Its keys are those of a version (`crates/core/src/config.rs`) but `probe`; `source` is for `load` alone, and
        `options` are those fields of ModelConfig that are set.
        """

    def load(self, spec: dict[str, Any]) -> LoadedModel:
        """Make a model of a version's specification; its `start` is still to be called. Raises LoadError."""


def runtime_named(name: str) -> Runtime:
    """The runtime of this name; `service` is the one that hosts services."""
    return import_module(_SERVICE if name == "service" else _MODULES[name])


def runtime_for(path: Path) -> Runtime:
    """The runtime that recognises `path`. Raises TargetError."""
    for name in _MODULES:
        runtime = runtime_named(name)
        if runtime.recognise(path):
            return runtime
    raise TargetError(
        f"{path.name} has no format that is served",
        "give a Python file (.py) with decorated classes, an ONNX model (.onnx) or TorchScript (.pt, .pth, .ts)",
    )
