"""Sockets that the engine was started with, by the protocol of sd_listen_fds(3): its doors, open before it was."""

import os
import socket
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from samovar.config import ServerConfig
from samovar.errors import ConfigError

__all__ = ["Inherited"]

_FIRST = 3
_DOORS = ("http", "grpc")
_CURE = "pass TCP or Unix stream sockets that listen: one for HTTP, and a second one for gRPC if there is to be one"


@dataclass(frozen=True)
class _Door:
    """One socket; `place` is its address as `--host` has it."""

    name: str
    place: str
    port: int
    is_loopback: bool


@dataclass(frozen=True)
class Inherited:
    """The doors of descriptors 3 and following, in their order; none where no socket was passed to this process.

    `remark` says why sockets that the variables tell of are not for this process, if they tell of any.
    """

    doors: Sequence[_Door] = ()
    remark: str | None = None

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Self:
        """What the variables tell; those that only this process reads are removed.

        `LISTEN_FDS` and `LISTEN_PID` stay for `_core.Engine`, which takes the sockets and removes them, if there are
        doors. Raises ConfigError for what is no door.
        """
        names = environment.pop("LISTEN_FDNAMES", "")
        environment.pop("LISTEN_FDS_FIRST_FD", None)  # no part of the protocol
        count, pid = environment.get("LISTEN_FDS", ""), environment.get("LISTEN_PID", "")
        if count and pid == str(os.getpid()):
            return cls(_doors(_number(count), names))
        for name in ("LISTEN_FDS", "LISTEN_PID"):
            environment.pop(name, None)
        if not count:
            return cls()
        words = f"LISTEN_FDS is for process {pid or '?'} (LISTEN_PID), not for this one, {os.getpid()}"
        return cls(remark=f"{words}: its sockets are not used")

    @property
    def names(self) -> list[str]:
        """Which door each descriptor is."""
        return [door.name for door in self.doors]

    def settle(self, settings: ServerConfig) -> ServerConfig:
        """The settings with the addresses that are listened on in the place of those that would have been bound."""
        if not self.doors:
            return settings
        ports = {f"{door.name}_port": door.port for door in self.doors}
        # What is told to strangers depends on who can come: the address that most can reach counts.
        exposed = [door for door in self.doors if not door.is_loopback] or self.doors
        return replace(settings, host=exposed[0].place, **ports)  # type: ignore[arg-type]


def _number(count: str) -> int:
    if count.isdecimal() and 1 <= int(count) <= len(_DOORS):
        return int(count)
    raise ConfigError(f"LISTEN_FDS is {count[:20]!r}, which is not 1 or 2", _CURE)


def _doors(count: int, names: str) -> list[_Door]:
    given = names.split(":") if names else []
    if not set(given) & set(_DOORS):  # no names, or a service manager's own: the order says what is what
        given = list(_DOORS[:count])
    if sorted(given, reverse=True) != sorted(_DOORS[:count], reverse=True):
        wanted = "http" if count == 1 else "http and grpc, in either order"
        raise ConfigError(f"LISTEN_FDNAMES is {names[:60]!r}, of {count} sockets; wanted: {wanted}", _CURE)
    return [_door(name, _FIRST + index) for index, name in enumerate(given)]


def _door(name: str, descriptor: int) -> _Door:
    """The socket of a descriptor, which stays open."""
    what = f"descriptor {descriptor}, inherited as the {name} door"
    try:
        listening = socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        raise ConfigError(f"{what}, is no socket: {error.strerror}", _CURE) from error
    with listening:
        family, kind = listening.family, listening.type
        if kind != socket.SOCK_STREAM or family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise ConfigError(f"{what}, is a socket of {_word(family)} and {_word(kind)}", _CURE)
        if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ConfigError(f"{what}, does not listen", _CURE)
        address = listening.getsockname()
    if family != socket.AF_UNIX:
        return _Door(name, address[0], address[1], ServerConfig(host=address[0]).is_loopback)
    if not isinstance(address, str) or not address:
        raise ConfigError(f"{what}, has an abstract name, which every user of the machine may connect to", _CURE)
    return _Door(name, f"unix:{address}", 0, True)


def _word(value: object) -> str:
    return str(getattr(value, "name", value))
