"""What a command line or a program hands to the engine process that it starts: targets and settings, an environment."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samovar.config import Configuration, ServerConfig
from samovar.config.declared import read_declared
from samovar.repository.targets import Target

__all__ = ["Handover", "command", "environment", "leave_environment"]

_TUNABLES = "GLIBC_TUNABLES"
_KEPT_BLOCKS = "glibc.malloc.tcache_count=128"
"""Freed blocks of one size that a thread keeps at hand. Of glibc's 7 a batch of 32 answers takes the rest from where a
search is needed: 4 % of the time of an echo at 32 connections. No call sets it, and glibc reads it only at a start."""


@dataclass(frozen=True)
class Handover:
    """Everything that an engine process needs to know.

    `news` is a pipe for the content of the ready file, or for what prevented the start. `lifeline` is a pipe that ends
    with the process that started the engine: the engine then stops.
    """

    targets: Sequence[Target]
    configuration: Configuration
    news: int | None = None
    lifeline: int | None = None

    def write(self) -> int:
        """An inheritable descriptor of a file without a name that holds it all."""
        content: dict[str, Any] = {
            "targets": [[str(target.path), target.class_name, target.kind] for target in self.targets],
            "server": asdict(self.configuration.server),
            "models": {name: declared.to_json() for name, declared in self.configuration.models.items()},
            "file": None if self.configuration.file is None else str(self.configuration.file),
            "news": self.news,
            "lifeline": self.lifeline,
        }
        import tempfile  # for the engine, which only reads, to do without

        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(content).encode())
            file.seek(0)
            return os.dup(file.fileno())

    @classmethod
    def read(cls, descriptor: int) -> "Handover":
        """The reverse of `write`; closes the descriptor."""
        with os.fdopen(descriptor, "rb") as file:
            content = json.load(file)
        server: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in content["server"].items()
        }
        models = {name: read_declared(table, f"of [models.{name}]") for name, table in content["models"].items()}
        own_file = None if content["file"] is None else Path(content["file"])
        configuration = Configuration(ServerConfig(**server), models, own_file)
        targets = [Target(Path(path), class_name, kind) for path, class_name, kind in content["targets"]]
        return cls(targets, configuration, content["news"], content["lifeline"])


def command(descriptor: int) -> list[str]:
    """The command of an engine process that reads `descriptor`."""
    return [sys.executable, "-P", "-m", "samovar", "engine", str(descriptor)]


def environment() -> dict[str, str]:
    """The environment of an engine process: this one's, and what its allocator keeps, unless that is set already."""
    given = os.environ.get(_TUNABLES, "")
    if "glibc.malloc.tcache_count" in given:
        return dict(os.environ)
    return {**os.environ, _TUNABLES: f"{given}:{_KEPT_BLOCKS}".lstrip(":")}


def leave_environment() -> None:
    """Take back what `environment` added: it is meant for the engine alone, not for what the engine starts."""
    given = os.environ.get(_TUNABLES, "").removesuffix(_KEPT_BLOCKS).rstrip(":")
    if given:
        os.environ[_TUNABLES] = given
    else:
        os.environ.pop(_TUNABLES, None)
