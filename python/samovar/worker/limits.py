"""What the worker's process may take."""

import resource
from pathlib import Path

__all__ = ["limit_memory"]


def limit_memory(max_bytes: int | None) -> None:
    """Give this process no more address space than so many bytes (getrlimit(2): RLIMIT_AS); None leaves it as it is.

    Whoever asks for more gets none: a MemoryError in Python, whatever it thinks right in C. Raises MemoryError where
    more is in use already.
    """
    if max_bytes is None:
        return
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    in_use = pages * resource.getpagesize()
    if in_use > max_bytes:
        raise MemoryError(
            f"max_memory_bytes is {max_bytes}, but the worker's libraries alone take {in_use} bytes of address space; "
            "allow more"
        )
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    soft = max_bytes if most == resource.RLIM_INFINITY else min(max_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (soft, most))
