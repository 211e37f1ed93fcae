"""Which engine a command means: an address, an admin socket, or the only engine of this user that runs."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samovar.config.machine import admin_folder
from samovar.errors import InputError, SamovarError, UnreachableError

if TYPE_CHECKING:
    from samovar.client import Client

__all__ = ["Engine", "Running", "connect", "is_own", "running"]

_PROBE_TIMEOUT_S = 5.0
_SHOWN_MODELS = 5


@dataclass(frozen=True)
class Engine:
    """An engine to talk to; `is_admin` says that it is its admin socket."""

    client: "Client"
    is_admin: bool


@dataclass(frozen=True)
class Running:
    """An engine of this user: its admin socket, and what it says there; None where it does not answer."""

    path: Path
    state: dict[str, Any] | None

    @property
    def pid(self) -> str:
        """The process id, as the socket's name has it."""
        return self.path.stem

    @property
    def url(self) -> str:
        """Where its HTTP door is."""
        from samovar.control.introduction import place

        return place(self.state["addresses"]["http"] if self.state else {"path": ""})

    @property
    def ports(self) -> list[int]:
        """The TCP ports of its doors."""
        addresses = self.state["addresses"] if self.state else {}
        return [door["port"] for door in addresses.values() if isinstance(door, dict) and door["path"] is None]


@contextmanager
def connect(url: str | None, engine: str | None) -> Iterator[Engine]:
    """The engine that the options `--url` and `--engine` mean.

    Raises UnreachableError where there is none, InputError where they name several.
    """
    from samovar.client import Client

    if url is not None and engine is not None:
        raise InputError("--url and --engine both name an engine", "give one of them")
    for option, value in (("--url", url), ("--engine", engine)):
        if value == "":  # an unset variable of a shell does not mean the engine that happens to run here
            raise InputError(f"{option} is empty", "name an engine, or leave the option out")
    address = url or f"unix:{_socket_of(engine) if engine else _only().path}"
    with Client(address) as client:
        yield Engine(client, is_admin=url is None)


def running() -> list[Running]:
    """Every engine of this user whose admin socket stands at its usual place."""
    folder = admin_folder()
    if not is_own(folder):
        return []
    return [Running(path, _state(path)) for path in sorted(folder.glob("*.sock")) if _is_alive(path)]


def is_own(folder: Path) -> bool:
    """True if only this user can have put a socket there: others may write to the temporary directory."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _socket_of(engine: str) -> Path:
    """The admin socket of a process id, or the path that is given."""
    if not engine.isdecimal():
        return Path(engine.removeprefix("unix:")).absolute()
    found = running()
    for other in found:
        if other.pid == engine:
            return other.path
    pids = ", ".join(other.pid for other in found)
    raise UnreachableError(f"no engine of yours has the process id {engine}", f"those that run: {pids or 'none'}")


def _only() -> Running:
    found = running()
    if not found:
        raise UnreachableError(
            f"no engine of yours runs here (there is no admin socket in {admin_folder()})",
            "start one with `samovar serve TARGET`, or name one with --url http://host:port",
        )
    if len(found) > 1:
        lines = [f"\n  --engine {engine.pid}  {engine.url}  {_models(engine)}" for engine in found]
        raise InputError(f"{len(found)} engines of yours run here", "name one of them:" + "".join(lines))
    return found[0]


def _models(engine: Running) -> str:
    if engine.state is None:
        return "does not answer"
    names = list(dict.fromkeys(model["name"] for model in engine.state["models"]))
    more = [f"and {len(names) - _SHOWN_MODELS} more"] if len(names) > _SHOWN_MODELS else []
    return ", ".join([*names[:_SHOWN_MODELS], *more]) or "no models"


def _is_alive(path: Path) -> bool:
    """Whether somebody listens: the socket of an engine that was killed stays behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError as error:
            return isinstance(error, TimeoutError)
    return True


def _state(path: Path) -> dict[str, Any] | None:
    from samovar.client import Client

    try:
        with Client(f"unix:{path}", timeout_s=_PROBE_TIMEOUT_S) as client:
            return client.state()
    except SamovarError:
        return None
