"""Loading, reloading and unloading while an engine runs (`--control explicit`)."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lifecycle.load import Load
from serving import APPS, Serve, both_transports
from watching import (
    descriptors,
    entry,
    eventually,
    is_ready,
    keys_in,
    load,
    metric,
    pid_of,
    run,
    threads,
    unload,
    value,
    wait_begun,
    wait_unloaded,
)

EXPLICIT = ["--control", "explicit"]
X = {"x": np.ones((1, 1), np.float32)}


def copy_mortal(folder: Path, factor: int = 2, in_load: str = "pass") -> Path:
    """apps/mortal.py with another factor than two, and a load."""
    text = (APPS / "mortal.py").read_text()
    text = text.replace("import time\n", "import time\nfrom pathlib import Path\n")
    text = text.replace("Ran(key * 2,", f"Ran(key * {factor},")
    text = text.replace(
        '    """May run again after a death."""\n',
        f'    """May run again after a death."""\n\n    def load(self) -> None:\n        {in_load}\n',
    )
    file = folder / "mortal.py"
    file.write_text(text)
    return file


@both_transports
def test_a_reload_serves_the_old_version_until_the_new_one_is_ready(
    serve: Serve, tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    file = copy_mortal(tmp_path)
    served = serve(f"{file}:Mortal", options=EXPLICIT)
    old = pid_of(served, "mortal")
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    wait = f"Path({str(begun)!r}).touch()\n        while not Path({str(gate)!r}).exists(): time.sleep(0.01)"
    copy_mortal(tmp_path, factor=3, in_load=wait)
    reload = background.submit(load, served, "mortal")
    eventually(begun.exists, "the new version loads")
    assert is_ready(served, "mortal")
    assert value(run(served.http, "mortal", 5), "double") == 10
    gate.touch()
    assert reload.result().status == 200
    assert value(run(served.http, "mortal", 5), "double") == 15
    assert served.wait_gone([old]) == []


def test_reloads_under_load_fail_no_request(serve: Serve, tmp_path: Path) -> None:
    file = copy_mortal(tmp_path)
    served = serve(f"{file}:Mortal", options=EXPLICIT)
    pids = set()
    with Load(served.http, "mortal", clients=4) as clients:
        for _ in range(5):
            assert load(served, "mortal").status == 200
            pids.add(pid_of(served, "mortal"))
    assert clients.wrong() == []
    assert len(pids) == 5
    eventually(lambda: len(served.workers()) == 2, "the old workers are gone, one worker and the spare are left")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("syntax", "SyntaxError"),
        ("load", "no weights today"),
        ("class", "Mortal"),
        ("gone", "mortal.py"),
    ],
)
def test_a_broken_new_file_leaves_the_old_version_serving(serve: Serve, tmp_path: Path, fault: str, text: str) -> None:
    file = copy_mortal(tmp_path)
    served = serve(f"{file}:Mortal", options=EXPLICIT)
    pid = pid_of(served, "mortal")
    match fault:
        case "syntax":
            file.write_text("def broken(:")
        case "load":
            copy_mortal(tmp_path, in_load="raise RuntimeError('no weights today')")
        case "class":
            file.write_text("import samovar\n")
        case "gone":
            file.unlink()
    with Load(served.http, "mortal", clients=2) as clients:
        answer = load(served, "mortal")
    assert (answer.status, answer.code()) == (500, "load_failed")
    assert text in answer.json()["error"]
    assert clients.wrong() == []
    assert pid_of(served, "mortal") == pid
    assert is_ready(served, "mortal")
    assert entry(served, "mortal")["state"] == "READY"
    copy_mortal(tmp_path, factor=4)
    assert load(served, "mortal").status == 200
    assert value(run(served.http, "mortal", 5), "double") == 20


@both_transports
def test_an_unloaded_model_has_no_process_and_can_be_loaded_again(serve: Serve) -> None:
    served = serve("mortal.py:Mortal", "echo.py:EchoFp32", options=EXPLICIT)
    pid = pid_of(served, "mortal")
    assert unload(served, "mortal").status == 200
    assert served.wait_gone([pid]) == []
    wait_unloaded(served, "mortal")
    answer = run(served.http, "mortal", 1)
    assert (answer.status, answer.code()) == (503, "not_ready")
    assert not is_ready(served, "mortal")
    assert is_ready(served)
    assert unload(served, "mortal").status == 200, "to unload what is unloaded is no fault"
    assert load(served, "mortal").status == 200
    assert value(run(served.http, "mortal", 4), "double") == 8
    assert served.http.infer("echo_fp32", X).status == 200


def test_an_unload_lets_running_requests_finish_and_refuses_new_ones(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal", options=EXPLICIT)
    running = background.submit(run, served.http, "mortal", 3, 1.0)
    wait_begun(runs, 3)
    waiting = background.submit(run, served.http, "mortal", 4)
    eventually(lambda: metric(served, "samovar_queue_items", model="mortal") == 1, "one waits")
    unloading = background.submit(unload, served, "mortal")
    eventually(lambda: entry(served, "mortal")["state"] == "UNLOADING", "it drains")
    refused = run(served.http, "mortal", 5)
    assert (refused.status, refused.code()) == (503, "not_ready")
    assert value(running.result(), "double") == 6
    assert value(waiting.result(), "double") == 8
    assert unloading.result().status == 200
    assert 5 not in keys_in(runs)


def test_the_hooks_of_a_model_run_at_load_unload_and_stop(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hooks"
    monkeypatch.setenv("HOOKS_FILE", str(file))
    served = serve("hooks.py", options=EXPLICIT)
    assert sorted(file.read_text().split("\n")) == ["", "async load", "load"]
    assert unload(served, "hooks").status == 200
    wait_unloaded(served, "hooks")
    assert sorted(file.read_text().split("\n")) == ["", "async load", "load", "unload"]
    assert load(served, "hooks").status == 200
    assert served.stop() == 0
    lines = file.read_text().split("\n")[4:]
    assert sorted(lines) == ["", "async unload", "unload"]


@pytest.mark.timeout(120)
def test_fifty_loads_and_unloads_leave_nothing_in_the_engine(serve: Serve) -> None:
    served = serve("mortal.py:Mortal", options=EXPLICIT)

    def cycle() -> None:
        assert unload(served, "mortal").status == 200
        wait_unloaded(served, "mortal")
        assert load(served, "mortal").status == 200
        assert value(run(served.http, "mortal", 4), "double") == 8

    def settled() -> tuple[int, int, int]:
        eventually(lambda: len(served.workers()) == 2, "one worker and the spare")
        return descriptors(served.pid), threads(served.pid), len(served.processes())

    for _ in range(3):
        cycle()
    before = settled()
    for _ in range(50):
        cycle()
    eventually(lambda: settled() <= before, f"no more than {before} descriptors, threads, processes")


def test_an_unload_that_raises_is_in_the_log(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "clinging.py"
    file.write_text((APPS / "nobatch.py").read_text() + "\n    def unload(self):\n        raise OSError('no disk')\n")
    served = serve(str(file))
    assert served.stop() == 0
    [line] = [line for line in served.log() if line["message"].startswith("unload failed")]
    assert (line["level"], line["exception"]) == ("WARN", "OSError")
    assert "no disk" in line["traceback"]
