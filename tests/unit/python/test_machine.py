"""Limits of a container win over the machine's."""

import os
from pathlib import Path

import pytest

from samovar.config import machine


def put(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    "files",
    [
        {"membership": "0::/a/b\n", "cgroup/a/b/memory.max": "max\n", "cgroup/a/memory.max": "1000000\n"},
        {"membership": "0::/\n", "cgroup/memory.max": "1000000\n"},
        {"membership": "5:cpu,memory:/a\n", "cgroup/memory/a/memory.limit_in_bytes": "1000000\n"},
        {"membership": "5:memory:/gone\n", "cgroup/memory/memory.limit_in_bytes": "1000000\n"},
    ],
)
def test_the_smallest_memory_limit_holds(tmp_path: Path, files: dict[str, str]) -> None:
    put(tmp_path, files)
    assert machine.memory_bytes(tmp_path / "cgroup", tmp_path / "membership") == 1_000_000


@pytest.mark.parametrize(
    "files",
    [
        {"membership": "0::/a\n", "cgroup/a/cpu.max": "50000 100000\n"},
        {
            "membership": "4:cpu,cpuacct:/\n",
            "cgroup/cpu/cpu.cfs_quota_us": "50000",
            "cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    ],
)
def test_a_part_of_a_processor_counts_as_one(tmp_path: Path, files: dict[str, str]) -> None:
    put(tmp_path, files)
    assert machine.cpus(tmp_path / "cgroup", tmp_path / "membership") == 1


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"membership": "0::/a\n", "cgroup/a/cpu.max": "max 100000\n", "cgroup/a/memory.max": "max"},
        {"membership": "4:cpu:/\n", "cgroup/cpu/cpu.cfs_quota_us": "-1", "cgroup/cpu/cpu.cfs_period_us": "100000"},
    ],
)
def test_without_a_limit_the_machine_counts(tmp_path: Path, files: dict[str, str]) -> None:
    put(tmp_path, files)
    assert machine.cpus(tmp_path / "cgroup", tmp_path / "membership") == len(os.sched_getaffinity(0))
    assert machine.memory_bytes(tmp_path / "cgroup", tmp_path / "membership") == os.sysconf(
        "SC_PHYS_PAGES"
    ) * os.sysconf("SC_PAGE_SIZE")
