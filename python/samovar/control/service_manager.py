"""What systemd and its like are told of the engine, by the protocol of sd_notify(3)."""

import os
import socket
from contextlib import suppress

__all__ = ["ServiceManager"]


class ServiceManager:
    """Whoever started the engine and waits for it (`Type=notify`); nobody where `NOTIFY_SOCKET` names no socket.

    The variable is taken away: what workers start is no business of the manager's.
    """

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        # @ stands for the zero byte of an abstract name.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def tell(self, *states: str) -> None:
        """Send assignments, as "READY=1", one per line; a manager that does not listen is not waited for."""
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(states).encode(), self._address)
