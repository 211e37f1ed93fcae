"""Samovar serves machine-learning models.

Decorate a class whose `predict` has typed arrays, then run `samovar serve file.py`:

    @samovar.model(max_batch_size=32)
    class Double:
        def predict(self, x: Float32[np.ndarray, "batch 16"]) -> Float32[np.ndarray, "batch 16"]:
            return x * 2
"""

from typing import TYPE_CHECKING, Any

from samovar.errors import (
    ConfigError,
    InputError,
    InvalidInputError,
    LoadError,
    OutputError,
    RequestError,
    SamovarError,
    ServerError,
    TargetError,
    UnreachableError,
)
from samovar.model import model
from samovar.types import Bytes

if TYPE_CHECKING:
    from samovar import testing
    from samovar.repository.local import load
    from samovar.server import Server

__all__ = [
    "Bytes",
    "ConfigError",
    "InputError",
    "InvalidInputError",
    "LoadError",
    "OutputError",
    "RequestError",
    "SamovarError",
    "Server",
    "ServerError",
    "TargetError",
    "UnreachableError",
    "__version__",
    "load",
    "model",
    "testing",
]


def __getattr__(name: str) -> Any:
    """Import on first use what most programs, and every worker, do without."""
    if name == "Server":
        from samovar.server import Server

        return Server
    if name == "load":
        from samovar.repository.local import load

        return load
    if name == "testing":
        import importlib

        return importlib.import_module("samovar.testing")
    if name == "__version__":
        from importlib.metadata import version

        return version("samovar")
    raise AttributeError(f"module 'samovar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
