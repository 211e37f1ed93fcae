"""So many loads at once as there is room for: the others wait in a queue that can be seen."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from commands import run as command
from owner import Admin, admin
from serving import Serve, both_transports
from watching import eventually, is_ready, load, pid_of, unload

GATED = """
import time
from pathlib import Path

import numpy as np
from jaxtyping import Float32

import samovar


@samovar.model{options}
class {name}:
    def load(self) -> None:
        gate = Path({gate!r})
        with (gate.parent / "begun").open("a") as begun:
            begun.write("{name}\\n")
        while not gate.exists():
            time.sleep(0.01)

    def predict(self, x: Float32[np.ndarray, "batch 1"]) -> Float32[np.ndarray, "batch 1"]:
        return x
"""
X = {"x": np.ones((1, 1), np.float32)}


def gated(folder: Path, name: str, options: str = "") -> str:
    """A model whose load waits for the file `gate`, after a line in `begun`."""
    file = folder / f"{name.lower()}.py"
    file.write_text(GATED.format(name=name, gate=str(folder / "gate"), options=options))
    return str(file)


def begun(folder: Path) -> list[str]:
    file = folder / "begun"
    return file.read_text().split() if file.exists() else []


def versions(owner: Admin) -> dict[str, dict[str, Any]]:
    return {version["name"]: version for version in owner.get("/admin/state")["models"]}


@both_transports
def test_loads_wait_for_their_turn_and_tell_their_place(serve: Serve, tmp_path: Path) -> None:
    socket = tmp_path / "admin" / "engine.sock"
    files = [gated(tmp_path, name) for name in ("A", "B", "C")]
    served = serve(*files, options=["--max-loads", "1", "--admin-socket", str(socket)], ready=False)
    eventually(lambda: begun(tmp_path), "a load has begun")
    owner = Admin(str(socket))
    eventually(lambda: len(versions(owner)) == 3, "all are there")
    told = versions(owner)
    (loading,) = [name for name, version in told.items() if version["state"] == "loading"]
    assert loading.upper() in begun(tmp_path)
    waiting = {name: version for name, version in told.items() if name != loading}
    assert {version["state"] for version in waiting.values()} == {"configured"}
    assert told[loading]["loads_before"] is None
    assert sorted(version["loads_before"] for version in waiting.values()) == [0, 1]
    listed = command("models", "list", "--engine", str(socket)).out
    assert "configured (0 loads before it)" in listed
    assert "configured (1 loads before it)" in listed
    assert len(begun(tmp_path)) == 1
    (tmp_path / "gate").touch()
    served.wait_ready()
    assert sorted(begun(tmp_path)) == ["A", "B", "C"]
    for name in "abc":
        assert served.http.infer(name, X).status == 200
        events = admin(served).events(f"model={name}")
        assert [event["state"] for event in events] == ["configured", "loading", "ready"]


def test_instances_wait_too(serve: Serve, tmp_path: Path) -> None:
    file = gated(tmp_path, "Many", "(instances=3)")
    served = serve(file, options=["--max-loads", "2"], ready=False)
    eventually(lambda: len(begun(tmp_path)) == 2, "two loads have begun")
    (tmp_path / "gate").touch()
    served.wait_ready()
    assert len(begun(tmp_path)) == 3


def test_a_death_comes_back_while_a_load_takes_the_only_turn(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    served = serve(gated(tmp_path, "Slow"), "mortal.py:Mortal", options=["--max-loads", "1", "--control", "explicit"])
    gate.unlink()
    loading = background.submit(load, served, "slow")
    eventually(lambda: len(begun(tmp_path)) == 2, "the second load has begun")
    old = pid_of(served, "mortal")
    os.kill(old, signal.SIGKILL)
    assert pid_of(served, "mortal") != old
    assert not loading.done()
    gate.touch()
    assert loading.result().status == 200


def test_what_waits_for_its_turn_can_be_unloaded(serve: Serve, tmp_path: Path, background: ThreadPoolExecutor) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    files = [gated(tmp_path, "A"), gated(tmp_path, "B")]
    served = serve(*files, "mortal.py:Mortal", options=["--max-loads", "1", "--control", "explicit"])
    for name in "ab":
        assert unload(served, name).status == 200
    gate.unlink()
    first = background.submit(load, served, "a")
    eventually(lambda: len(begun(tmp_path)) == 3, "the load has begun")
    second = background.submit(load, served, "b")
    eventually(lambda: versions(admin(served))["b"]["loads_before"] == 0, "the other waits")
    assert unload(served, "b").status == 200
    assert second.result().code() == "load_failed"
    gate.touch()
    assert first.result().status == 200
    assert is_ready(served, "a")
    assert len(begun(tmp_path)) == 3
