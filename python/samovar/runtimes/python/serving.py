"""Runtime of services: a decorated class in memory, its application, and its methods that take tensors."""

from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

from samovar.config.declared import check_service_options
from samovar.runtimes import Question
from samovar.runtimes.python.classes import check_constructor, find_service
from samovar.runtimes.python.importing import import_file
from samovar.runtimes.python.objects import UserObject
from samovar.runtimes.python.uses import described_uses
from samovar.service.declaration import service_declaration_of

__all__ = ["IMPORTS", "Service", "described_service", "load"]

IMPORTS = ("numpy", "fastapi")


def described_service(question: Question, attribute: str, cls: type) -> dict[str, Any]:
    """The description of a decorated class, called `attribute` in its file. Raises TargetError or ConfigError."""
    from samovar.runtimes.python.requests import request_of
    from samovar.service.describe import describe

    declaration = service_declaration_of(cls)
    assert declaration is not None
    check_constructor(cls)
    name = question.name or declaration.name
    check_service_options(f"of service {cls.__name__}", question.declared)
    return {
        "name": name,
        "version": question.version or declaration.version,
        "runtime": "service",
        "source": {
            "path": str(question.path),
            "class": attribute,
            "is_async": True,
            "uses": described_uses(cls),
            "request": request_of(cls, name),
        },
        "inputs": [],
        "outputs": [],
        "batch_axis": False,
        "streams": False,
        "service": describe(cls, name),
        "options": {"idempotent": False, **declaration.options, **question.declared.options},
        "imports": list(IMPORTS),
    }


def load(spec: dict[str, Any]) -> "Service":
    """Find the class that a version's specification names and make one of it. Raises TargetError or LoadError."""
    path = Path(spec["source"]["path"])
    cls = find_service(import_file(path), path, spec["source"]["class"])
    return Service(cls, spec)


class Service:
    """One object of a user's class, and the ways to call it."""

    is_async = True
    streams = False

    def __init__(self, cls: type, spec: Mapping[str, Any]) -> None:
        self._class = cls
        self._name: str = spec["name"]
        self._expose_errors: bool = spec["source"]["expose_errors"]
        self._threads: int = spec["options"]["concurrency"]  # whatever the engine sends has one if it needs it
        self._object = UserObject(cls, spec["source"]["uses"])

    @property
    def application(self) -> Any:
        """Its ASGI application, for every HTTP request and WebSocket."""
        from samovar.service.application import build

        value, threads = self._object.value, self._threads
        return build(self._class, value, self._name, expose_errors=self._expose_errors, threads=threads)

    def method(self, name: str) -> Any:
        """The method that takes and gives tensors."""
        from samovar.service.methods import tensor_method

        return tensor_method(self._class, self._object.value, name, self._threads)

    def start(self) -> Awaitable[None] | None:
        """Run the user's load, if there is one; an awaitable if it is async. Raises LoadError."""
        return self._object.start()

    def close(self) -> Awaitable[None] | None:
        """Run the user's unload, if there is one; an awaitable if it is async. Raises LoadError."""
        return self._object.close()
