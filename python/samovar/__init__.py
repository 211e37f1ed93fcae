"""Samovar serves machine-learning models.

Decorate a class whose `predict` has typed arrays, then run `samovar serve file.py`:

    @samovar.model(max_batch_size=32)
    class Double:
        def predict(self, x: Float32[np.ndarray, "batch 16"]) -> Float32[np.ndarray, "batch 16"]:
            return x * 2
"""

from typing import TYPE_CHECKING, Any

from samovar.context import Context
from samovar.errors import (
    ConfigError,
    InputError,
    InvalidInputError,
    LoadError,
    OutputError,
    RequestError,
    SamovarError,
    ServerError,
    StepError,
    TargetError,
    UnreachableError,
)
from samovar.model import model
from samovar.service.declaration import api, mount, service
from samovar.service.uses import Use, set_opener, use
from samovar.types import Bytes

if TYPE_CHECKING:
    from fastapi import UploadFile as File
    from PIL.Image import Image

    from samovar import testing
    from samovar.repository.local import load
    from samovar.server import Server

__all__ = [
    "Bytes",
    "ConfigError",
    "Context",
    "File",
    "Image",
    "InputError",
    "InvalidInputError",
    "LoadError",
    "OutputError",
    "RequestError",
    "SamovarError",
    "Server",
    "ServerError",
    "StepError",
    "TargetError",
    "UnreachableError",
    "__version__",
    "api",
    "load",
    "model",
    "mount",
    "service",
    "testing",
    "use",
]


def __getattr__(name: str) -> Any:
    """Import on first use what most programs, and every worker, do without."""
    if name == "Image":
        from PIL.Image import Image

        return Image
    if name == "File":
        from fastapi import UploadFile

        return UploadFile
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


def _open_used(used: Use) -> Any:
    """What a handle leads to in a process without an engine."""
    from samovar.repository.local import open_used

    return open_used(used)


set_opener(_open_used)
