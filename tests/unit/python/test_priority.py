"""The priority of a process that loads: low for all its threads, and then for none."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from samovar.worker import priority
from samovar.worker.priority import Priority

ENGINE = os.getpriority(os.PRIO_PROCESS, os.getppid())
LOW = min(ENGINE + 10, 19)


def nice(process: int) -> set[int]:
    """The nice values of the threads of a process."""
    found = set()
    for thread in Path(f"/proc/{process}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            found.add(os.getpriority(os.PRIO_PROCESS, int(thread.name)))
    return found


@pytest.fixture
def raisable() -> None:
    if not priority._can_raise_again():
        pytest.skip("this process may not raise its priority again (CAP_SYS_NICE, RLIMIT_NICE)")


@pytest.fixture
def thread() -> Iterator[None]:
    """Another thread of this process."""
    end = threading.Event()
    started = threading.Thread(target=end.wait)
    started.start()
    yield
    end.set()
    started.join()


@pytest.mark.usefixtures("raisable", "thread")
def test_all_threads_and_children_are_lowered_and_raised() -> None:
    own = Priority()
    own.set(is_low=True)
    own.set(is_low=True)  # what is lowered stays as it is
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    end = threading.Event()
    inheriting = threading.Thread(target=end.wait)
    inheriting.start()
    try:
        assert nice(os.getpid()) == nice(child.pid) == {LOW}
        own.set(is_low=False)
        assert nice(os.getpid()) == nice(child.pid) == {ENGINE}
    finally:
        own.set(is_low=False)
        end.set()
        inheriting.join()
        child.communicate(b"\n")


@pytest.mark.usefixtures("raisable")
def test_what_the_engine_started_low_is_raised_by_the_first_thing_that_is_urgent() -> None:
    program = (
        "import os\n"
        "from samovar.worker.priority import Priority\n"
        "own = Priority()\n"
        "for is_low in (True, False, False, True):\n"
        "    own.set(is_low=is_low); print(os.getpriority(os.PRIO_PROCESS, 0))\n"
    )
    started = ["nice", "-n", "7", sys.executable, "-c", program]
    ran = subprocess.run(started, capture_output=True, text=True, timeout=60, check=True)
    normal = os.getpriority(os.PRIO_PROCESS, 0)
    assert [int(line) for line in ran.stdout.split()] == [normal + 7, normal, normal, normal + 7]


def test_what_was_not_lowered_is_not_touched() -> None:
    Priority().set(is_low=False)
    assert nice(os.getpid()) == {ENGINE}


def test_what_could_not_be_raised_again_is_not_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "_can_raise_again", lambda: False)
    Priority().set(is_low=True)
    assert nice(os.getpid()) == {ENGINE}


def test_the_kernel_is_asked_whether_it_can_be_raised_again() -> None:
    """As somebody without privileges, by whom a nice value never falls."""
    program = (
        "import os, resource\n"
        "from samovar.worker.priority import Priority, _can_raise_again\n"
        "resource.setrlimit(resource.RLIMIT_NICE, (0, 0))\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "Priority().set(is_low=True)\n"
        "print(_can_raise_again(), os.getpriority(os.PRIO_PROCESS, 0))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.split() == ["False", str(os.getpriority(os.PRIO_PROCESS, 0))], ran.stderr
