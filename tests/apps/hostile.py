"""A worker that breaks the channel it hangs on."""

import ctypes
import os
import socket
from pathlib import Path

import numpy as np
from jaxtyping import Int32

import samovar

GARBAGE = b"\xa5" * 4096
CONTROL_BYTES = 40_960


def channel_sockets() -> list[int]:
    """Descriptors of Unix sockets that this process has."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:  # the descriptor that listed the folder
            continue
        if target.startswith("socket:"):
            found.append(int(entry.name))
    return found


def writable_segments() -> list[tuple[int, int]]:
    """Start and size of the shared memory that this process may write."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "memfd:samovar" in line and line.split()[1].startswith("rw"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            found.append((start, end - start))
    return found


def garbage_on_the_socket() -> None:
    for descriptor in channel_sockets():
        os.write(descriptor, GARBAGE)


def half_a_frame_and_the_end() -> None:
    for descriptor in channel_sockets():
        os.write(descriptor, bytes([6, 0, 0]))
        socket.socket(fileno=os.dup(descriptor)).shutdown(socket.SHUT_RDWR)


def garbage_in_the_rings() -> None:
    for start, size in writable_segments():
        ctypes.memset(start, 0xA5, size)


def forged_ends() -> None:
    """A valid END of a call that nobody sent."""
    for descriptor in channel_sockets():
        os.write(descriptor, bytes([6]) + bytes(7) + (99_999).to_bytes(8, "little") + bytes(48))


ATTACKS = {1: garbage_on_the_socket, 2: half_a_frame_and_the_end, 3: garbage_in_the_rings, 4: forged_ends}


@samovar.model(idempotent=False)
class Hostile:
    """0 answers; another number is an attack, after which it answers if it still lives."""

    def predict(self, attack: Int32[np.ndarray, "batch 1"]) -> Int32[np.ndarray, "batch 1"]:
        for number in attack.ravel().tolist():
            if number:
                ATTACKS[number]()
        return attack
