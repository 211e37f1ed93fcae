"""Engines that inherit their listening sockets, and take over from each other on them."""

import os
import re
import signal
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from grpc_door import Grpc
from http_door import Http, Wire
from lifecycle.callers import Callers
from serving import HasNumber, NotReadyError, Serve, Served
from watching import eventually, run

X = {"x": np.ones((1, 1), np.float32)}
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def two() -> Iterator[list[socket.socket]]:
    """Two listening sockets."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128)) for _ in range(2)]


def ports(sockets: Sequence[socket.socket]) -> list[int]:
    return [each.getsockname()[1] for each in sockets]


def inodes(pid: int) -> set[str]:
    """The sockets of a process."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


@pytest.mark.parametrize(("names", "order"), [("", 1), ("samovar.socket:samovar.socket", 1), ("grpc:http", -1)])
def test_inherited_sockets_are_the_doors_and_stay_whose_they_are(
    serve: Serve, two: list[socket.socket], names: str, order: int
) -> None:
    environment = {"LISTEN_FDNAMES": names} if names else {}
    served = serve("echo.py:EchoFp32", sockets=two[::order], environment=environment)
    http, grpc = ports(two)
    assert served.ready["ports"] == {"http": http, "grpc": grpc}
    for port in (http, grpc):
        assert Http(port).infer("echo_fp32", X).status == 200
        assert Grpc(port).infer("echo_fp32", X).arrays()["output"].tolist() == [[1.0]]
    mine = {f"socket:[{os.fstat(each.fileno()).st_ino}]" for each in two}
    assert mine <= inodes(served.pid)
    for pid in served.workers():
        assert not mine & inodes(pid), "a worker would keep the port"
        assert b"LISTEN_" not in Path(f"/proc/{pid}/environ").read_bytes()
    (line,) = [line for line in served.log() if "inherited sockets" in line["message"]]
    assert "--host" in line["message"]
    assert served.stop() == 0
    with socket.create_connection(("127.0.0.1", http), 5), two[0].accept()[0]:
        pass  # the port is open, and whoever owns it can go on


def test_one_inherited_unix_socket_serves_both_protocols_and_its_path_stays(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "door.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        served = serve("echo.py:EchoFp32", sockets=[listening], environment={"LISTEN_FDNAMES": "http"})
        assert served.ready["ports"] == {"http": None, "grpc": None}
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            with Wire(client) as wire:
                wire.send(LIVE)
                assert wire.answer().status == 200
        assert served.stop() == 0
        assert path.exists()


def test_what_is_told_to_strangers_depends_on_the_socket_and_not_on_the_option(serve: Serve) -> None:
    with socket.create_server(("0.0.0.0", 0)) as open_to_all:
        served = serve("mortal.py:Mortal", sockets=[open_to_all])
        # It is printed once the engine is ready.
        eventually(lambda: "exposed: whoever reaches 0.0.0.0" in served.stdout_path.read_text(), "it is told")
        answer = run(served.http, "mortal", -1)
        assert (answer.status, answer.code()) == (500, "model_error")
        assert "a key that raises" not in answer.json()["error"]


def test_doors_that_were_inherited_open_when_the_loads_have_ended(
    serve: Serve, two: list[socket.socket], tmp_path: Path, background: ThreadPoolExecutor
) -> None:
    gate = tmp_path / "gate"
    served = serve("load_held.py", sockets=two, ready=False, environment={"GATED_FILE": str(gate)})
    early = background.submit(Http(ports(two)[0]).infer, "gated", X)
    eventually(lambda: list(tmp_path.glob("gate.*")), "it loads")
    assert not early.done(), "it waits, as it would behind another engine"
    gate.touch()
    assert early.result().status == 200
    served.wait_ready()


def test_a_stop_before_the_doors_are_open_leaves_the_clients_to_others(
    serve: Serve, two: list[socket.socket], tmp_path: Path
) -> None:
    served = serve("load_held.py", sockets=two, ready=False, environment={"GATED_FILE": str(tmp_path / "gate")})
    eventually(lambda: list(tmp_path.glob("gate.*")), "it loads")
    with socket.create_connection(("127.0.0.1", ports(two)[0]), 5) as client:
        client.sendall(LIVE)
        assert served.stop() == 0
        accepted, _ = two[0].accept()
        with accepted:
            accepted.settimeout(5)
            assert accepted.recv(1_000) == LIVE


@pytest.mark.parametrize(
    ("family", "kind", "variables", "text"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM, {}, "descriptor 3, inherited as the http door, is a socket of AF_INET and"),
        (socket.AF_INET, socket.SOCK_STREAM, {}, "descriptor 3, inherited as the http door, does not listen"),
        (socket.AF_UNIX, socket.SOCK_STREAM, {}, "has an abstract name"),
        (socket.AF_INET, socket.SOCK_STREAM, {"LISTEN_FDS": "3"}, "LISTEN_FDS is '3', which is not 1 or 2"),
        (socket.AF_INET, socket.SOCK_STREAM, {"LISTEN_FDNAMES": "grpc"}, "LISTEN_FDNAMES is 'grpc', of 1 sockets"),
        (socket.AF_INET, socket.SOCK_STREAM, {"LISTEN_FDNAMES": "http:ftp"}, "wanted: http; pass TCP or Unix"),
        (None, socket.SOCK_STREAM, {}, "descriptor 3, inherited as the http door, is no socket"),
    ],
)
def test_what_is_no_door_stops_the_start_and_is_named(
    serve: Serve,
    tmp_path: Path,
    family: socket.AddressFamily | None,
    kind: socket.SocketKind,
    variables: dict[str, str],
    text: str,
) -> None:
    with ExitStack() as stack:
        passed: HasNumber
        if family is None:
            passed = stack.enter_context((tmp_path / "file").open("w"))
        else:
            passed = given = stack.enter_context(socket.socket(family, kind))
            if family == socket.AF_UNIX:
                given.bind(f"\0samovar-{os.getpid()}-{tmp_path.name}")
                given.listen()
        with pytest.raises(NotReadyError, match=re.escape(text)) as refused:
            serve("echo.py:EchoFp32", sockets=[passed], environment=variables)
    assert str(refused.value).startswith("exit code 2\n")
    assert "pass TCP or Unix stream sockets that listen" in str(refused.value)


def test_sockets_for_another_process_are_not_taken(serve: Serve, two: list[socket.socket]) -> None:
    served = serve("echo.py:EchoFp32", sockets=two, environment={"LISTEN_PID": "1"})
    assert served.port not in ports(two)
    assert served.http.infer("echo_fp32", X).status == 200
    told = [line["message"] for line in served.log() if "LISTEN_FDS is for process 1 (LISTEN_PID)" in line["message"]]
    assert len(told) == 1


def test_engines_swap_under_load_without_a_failed_request(serve: Serve, two: list[socket.socket]) -> None:
    def start() -> Served:
        return serve("mortal.py:Mortal", sockets=two, options=["--spare-workers", "0"])

    engine = start()
    with Callers(*ports(two)) as callers:
        callers.wait(50)
        for _ in range(4):
            successor = start()
            callers.wait(50)
            engine.process.send_signal(signal.SIGTERM)
            assert engine.process.wait(20) == 0
            engine = successor
            callers.wait(50)
    assert callers.not_fine() == []
    assert len({outcome.pid for outcome in callers.outcomes}) == 5, "each had its share"
