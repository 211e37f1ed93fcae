"""The admin socket: what the owner of an engine may see and do, whatever its clients may."""

import json
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from owner import admin
from serving import Serve, Served
from watching import eventually, metric

X = {"x": np.ones((1, 2), np.float32)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "admin" / "engine.sock"


def with_socket(path: Path, *more: str) -> list[str]:
    return ["--admin-socket", str(path), *more]


def test_socket_is_its_owners_alone_and_goes_with_the_engine(serve: Serve, path: Path) -> None:
    served = serve("echo.py:EchoFp32", options=with_socket(path))
    assert served.ready["admin"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert served.stop() == 0
    assert not path.exists()


def test_state_tells_everything_of_the_engine_and_its_versions(serve: Serve, path: Path) -> None:
    served = serve("echo.py:EchoFp32", "nobatch.py", options=with_socket(path))
    state = admin(served).get("/admin/state")
    assert state["pid"] == served.pid
    assert (state["ready"], state["draining"], state["control"]) == (True, False, "none")
    assert state["started"] == pytest.approx(path.stat().st_mtime, abs=10)
    assert state["addresses"]["http"]["port"] == served.port
    assert state["addresses"]["admin"] == str(path)
    models = {model["name"]: model for model in state["models"]}
    assert set(models) == {"echo_fp32", "nobatch"}
    echo = models["echo_fp32"]
    assert (echo["version"], echo["state"], echo["runtime"], echo["batch_axis"]) == ("1", "ready", "python", True)
    assert echo["inputs"] == [{"name": "x", "datatype": "FP32", "dims": [-1]}]
    assert echo["source"]["path"].endswith("echo.py")
    assert echo["options"]["max_batch_size"] == 64
    assert {instance["pid"] for instance in echo["instances"]} < set(served.workers())
    assert [event["state"] for event in echo["events"]] == ["configured", "loading", "ready"]


def test_clients_find_none_of_it(shared: Served) -> None:
    for path in ("/admin/state", "/admin/events"):
        answer = shared.http.get(path)
        assert (answer.status, answer.code()) == (404, "not_found")


def test_everything_of_the_http_door_is_there_too(serve: Serve, path: Path) -> None:
    served = serve("echo.py:EchoFp32", options=with_socket(path))
    owner = admin(served)
    content = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [3]}]}
    answer = owner.request("POST", "/v2/models/echo_fp32/infer", json.dumps(content).encode())
    assert answer.arrays()["output"].tolist() == [[3]]
    assert metric(served, "samovar_requests_total", door="admin", code="ok") == 1
    assert owner.request("POST", "/admin/state").headers["allow"] == "GET, HEAD"
    eventually(lambda: paths(served) == ["/v2/models/echo_fp32/infer", "/admin/state"], "the log has both")


def paths(served: Served) -> list[str]:
    """What the log says that the owner asked for."""
    return [line["path"] for line in served.log() if line.get("door") == "admin"]


def test_owner_loads_and_unloads_where_clients_may_not(serve: Serve, path: Path) -> None:
    served = serve("echo.py:EchoFp32", options=with_socket(path))
    owner, unload = admin(served), "/v2/repository/models/echo_fp32/unload"
    assert served.http.request("POST", unload).code() == "control_disabled"
    assert owner.request("POST", unload).status == 200
    assert served.http.infer("echo_fp32", X).status == 503
    assert owner.request("POST", "/v2/repository/models/echo_fp32/load").status == 200
    assert served.http.infer("echo_fp32", X).status == 200
    for verb in ("load", "unload"):
        answer = owner.request("POST", f"/v2/repository/models/nothing/{verb}")
        assert (answer.status, answer.code()) == (404, "unknown_model")


def test_events_are_numbered_and_can_be_waited_for(serve: Serve, path: Path) -> None:
    served = serve("echo.py:EchoFp32", "nobatch.py", options=with_socket(path))
    owner = admin(served)
    past = owner.get("/admin/events")
    assert [event["seq"] for event in past["events"]] == list(range(1, past["last"] + 1))
    of_echo = owner.events("model=echo_fp32")
    assert [(event["version"], event["state"]) for event in of_echo] == [
        ("1", "configured"),
        ("1", "loading"),
        ("1", "ready"),
    ]
    assert of_echo[0]["time"] <= of_echo[1]["time"]
    assert owner.events(f"after={past['last']}") == []
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(owner.events, f"after={past['last']}&wait_s=60&model=echo_fp32")
        assert owner.request("POST", "/v2/repository/models/nobatch/unload").status == 200
        assert owner.request("POST", "/v2/repository/models/echo_fp32/unload").status == 200
        assert waiting.result()[0]["state"] == "draining"
    states = [event["state"] for event in owner.events(f"after={past['last']}")]
    assert states == ["draining", "unloaded", "draining", "unloaded"]


@pytest.mark.parametrize("query", ["after=x", "after=-1", "wait_s=61", "wait_s=nan", "model=%ff", "since=3"])
def test_wrong_queries_say_what_is_wanted(serve: Serve, path: Path, query: str) -> None:
    served = serve("echo.py:EchoFp32", options=with_socket(path))
    answer = admin(served).request("GET", f"/admin/events?{query}")
    assert (answer.status, answer.code()) == (400, "invalid_request")
    assert "want" in answer.json()["error"]


def test_owner_watches_the_end(serve: Serve, path: Path) -> None:
    served = serve("echo.py:EchoFp32", options=with_socket(path, "--drain-delay-s", "0.5"))
    owner = admin(served)
    last = owner.get("/admin/events")["last"]
    with ThreadPoolExecutor(1) as threads:
        stopping = threads.submit(served.stop)
        eventually(lambda: owner.get("/admin/state")["draining"], "it drains")
        answer = owner.request("POST", "/v2/repository/models/echo_fp32/load")
        assert (answer.status, answer.code()) == (503, "shutting_down")
        assert owner.events(f"after={last}&wait_s=60")[0]["state"] == "draining"
        assert stopping.result() == 0, "a client that waits for events holds nothing up"


def test_socket_that_outlived_its_engine_is_replaced(serve: Serve, path: Path) -> None:
    path.parent.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    assert admin(serve("echo.py:EchoFp32", options=with_socket(path))).get("/admin/state")["ready"]


def test_socket_somebody_could_replace_stops_the_start(serve: Serve, path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    served = serve("echo.py:EchoFp32", options=with_socket(path), ready=False)
    assert served.process.wait(30) == 1
    assert f"cannot bind the admin socket {path}" in served.output()
    assert "others may write its folder" in served.output()
    assert "--admin-socket" in served.output()


def test_engine_starts_without_a_socket_that_nobody_asked_for(serve: Serve, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    (runtime / "samovar").mkdir(parents=True)
    (runtime / "samovar").chmod(0o777)
    served = serve("echo.py:EchoFp32", environment={"XDG_RUNTIME_DIR": str(runtime)})
    assert served.ready["admin"] is None
    (line,) = [line for line in served.log() if "no admin socket" in line["message"]]
    assert line["level"] in ("warn", "WARN", "warning")


def test_default_socket_is_in_the_users_folder(serve: Serve, tmp_path: Path) -> None:
    served = serve("echo.py:EchoFp32", environment={"XDG_RUNTIME_DIR": str(tmp_path)})
    assert served.ready["admin"] == str(tmp_path / "samovar" / f"{served.pid}.sock")
    assert stat.S_IMODE((tmp_path / "samovar").stat().st_mode) == 0o700
    assert admin(served).get("/admin/state")["pid"] == served.pid


def test_no_socket_where_none_is_wanted(serve: Serve) -> None:
    assert serve("echo.py:EchoFp32", options=["--admin-socket", "none"]).ready["admin"] is None
