"""The ready file: there while the engine that wrote it serves, and whole for whoever sees it."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from samovar.errors import ConfigError

__all__ = ["ReadyFile"]


class ReadyFile:
    """The file at `path`; nothing happens where that is None."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path)

    def check(self) -> None:
        """See that it can be written, without touching it. Raises ConfigError."""
        if self._path is None:
            return
        if self._path.is_dir():
            raise ConfigError(f'ready file "{self._path}" is a folder', "name a file in it")
        if not self._path.parent.is_dir():
            raise ConfigError(f'ready file "{self._path}": there is no folder "{self._path.parent}"', "make it first")
        temporary = self._temporary(self._path)
        try:
            temporary.touch()
            temporary.unlink()
        except OSError as error:
            raise ConfigError(
                f'ready file "{self._path}" cannot be written: {error.strerror or error}',
                "choose another --ready-file, in a folder where this user may write",
            ) from error

    def clear(self) -> None:
        """Remove what an engine that died has left behind."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    def write(self, document: dict[str, Any]) -> None:
        """Put the document there in one step. Raises OSError."""
        if self._path is not None:
            temporary = self._temporary(self._path)
            temporary.write_text(json.dumps(document), "utf-8")
            temporary.replace(self._path)

    def withdraw(self) -> None:
        """Remove it, unless another engine has replaced it meanwhile."""
        if self._path is not None:
            with suppress(OSError, ValueError, TypeError, KeyError):
                if json.loads(self._path.read_text("utf-8"))["pid"] == os.getpid():
                    self._path.unlink()

    @staticmethod
    def _temporary(path: Path) -> Path:
        return path.with_name(f".{path.name}.{os.getpid()}")
