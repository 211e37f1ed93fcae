"""Engines started from Python: they stop with their block, and with their program."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import samovar
from samovar import testing
from samovar.errors import RequestError, ServerError
from serving import APPS, MARK, ended, marked
from watching import eventually

KEY = {"key": np.array([[21]], np.int64), "seconds": np.zeros((1, 1), np.float32)}
MORTAL = f"{APPS / 'mortal.py'}:Mortal"


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What every process that a test starts has in its environment; none may be left."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    yield mark
    left = [pid for pid in marked(mark) if pid != os.getpid() and not ended(pid, 5.0)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_a_server_serves_in_its_block_and_leaves_nothing(mark: str) -> None:
    with samovar.Server(MORTAL, http_port=0, grpc_port=0, quiet=True) as server:
        assert server.pid in marked(mark)
        assert [(model["name"], model["state"]) for model in server.models] == [("mortal", "ready")]
        assert testing.infer(server, "mortal", **KEY)["double"].tolist() == [[42]]
    assert marked(mark) == []


def test_a_test_server_is_stopped_by_an_exception_in_its_block(mark: str) -> None:
    def fail() -> None:
        with testing.serve(MORTAL) as server:
            testing.infer(server, "mortal", key=np.array([[-1]], np.int64), seconds=KEY["seconds"])

    with pytest.raises(RequestError, match="a key that raises") as error:
        fail()
    assert (error.value.status, error.value.code) == (500, "model_error")
    assert marked(mark) == []


def test_a_server_that_cannot_load_raises_with_the_cause_and_leaves_nothing(mark: str) -> None:
    with pytest.raises(ServerError, match="the weights are not there"):
        samovar.Server(APPS / "loadfail.py", http_port=0, grpc_port=0, quiet=True)
    assert marked(mark) == []


def test_stopping_twice_is_harmless(mark: str) -> None:
    server = samovar.Server(MORTAL, http_port=0, grpc_port=0, quiet=True)
    server.stop()
    server.stop()
    assert marked(mark) == []


def test_a_server_whose_engine_was_killed_says_so_at_its_stop(mark: str) -> None:
    server = samovar.Server(MORTAL, http_port=0, grpc_port=0, quiet=True)
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(ServerError, match="exit code -9"):
        server.stop()


PROGRAM = """
import sys, time
import samovar
if __name__ == "__main__":
    server = samovar.Server(sys.argv[1], http_port=0, grpc_port=0, quiet=True)
    print(server.pid, flush=True)
    {then}
"""


@pytest.mark.parametrize("then", ["time.sleep(600)", "sys.exit(3)"])
def test_an_engine_ends_with_its_program(mark: str, tmp_path: Path, then: str) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(then=then))
    with subprocess.Popen([sys.executable, str(file), MORTAL], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        engine = int(program.stdout.readline())
        if "sleep" in then:
            program.kill()
        program.wait(20)
    assert ended(engine, 10.0)
    eventually(lambda: marked(mark) == [], "everything has ended")
