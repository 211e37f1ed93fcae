"""What this process may use of the machine: memory, processors, file descriptors.

Control groups (version 2, then version 1) win over the machine's own numbers, as in a container.
"""

import math
import os
from pathlib import Path

__all__ = ["admin_folder", "cpus", "file_limit", "memory_bytes"]

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_UNLIMITED_FILES = 65_536


def memory_bytes(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Bytes of memory that this process may use."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [_read(folder / "memory.max") for folder in _folders(cgroups, membership, "")]
    limits += [_read(folder / "memory.limit_in_bytes") for folder in _folders(cgroups, membership, "memory")]
    return min(machine, *(int(limit) for limit in limits if limit.isdecimal()), machine)


def cpus(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Processors that this process may use, a part of one counted as one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_read(folder / "cpu.max") for folder in _folders(cgroups, membership, "")]
    quotas += [
        f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
        for folder in _folders(cgroups, membership, "cpu")
    ]
    for words in map(str.split, quotas):
        if len(words) == 2 and all(map(str.isdecimal, words)) and int(words[1]):
            allowed = min(allowed, math.ceil(int(words[0]) / int(words[1])))
    return max(allowed, 1)


def file_limit() -> int:
    """File descriptors that this process may open."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED_FILES if soft == resource.RLIM_INFINITY else soft


def admin_folder() -> Path:
    """Where the admin sockets of this user's engines are."""
    own = os.environ.get("XDG_RUNTIME_DIR")
    if own:
        return Path(own) / "samovar"
    return Path(os.environ.get("TMPDIR") or "/tmp") / f"samovar-{os.getuid()}"  # noqa: S108 - mode 0700, checked


def _folders(cgroups: Path, membership: Path, controller: str) -> list[Path]:
    """The folder of this process's group for `controller` ("" is version 2) and those above it, up to the root."""
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            root = cgroups / controller if controller else cgroups
            own = root / path.lstrip("/")
            return [own, *(above for above in own.parents if above.is_relative_to(root))] if own != root else [root]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
