"""WebSockets that outlive what is around them: slow clients, stops, deaths, and what is left of them afterwards."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.frames import CloseCode

from serving import Serve, Served, both_transports
from sockets import Sockets
from watching import descriptors, eventually, metric, resident_kib

MESSAGE_BYTES = 65_536
GROWTH_KIB = 32 * 1024


@pytest.fixture
def sockets(serve: Serve) -> Iterator[Sockets]:
    """WebSockets of an engine that must lose no worker."""
    served = serve("sockets.py", options=["--spare-workers", "0"])
    before = sorted(served.workers())
    yield Sockets(served)
    assert sorted(served.workers()) == before


@both_transports
def test_a_slow_client_slows_the_application_and_memory_stays_flat(sockets: Sockets) -> None:
    served, count = sockets.served, 1_600  # 100 MiB
    with served.http.wire() as wire:
        sockets.ask(wire, f"pour/{count}")
        assert wire.head()[0] == 101
        pids = (served.pid, *served.workers())
        before = {pid: resident_kib(pid) for pid in pids}
        stuck = standing_still(sockets)
        assert 0 < stuck < count // 2
        assert served.http.get("/v2/health/live").status == 200
        for _ in range(count):
            head = wire.read(10)
            assert (head[0], int.from_bytes(head[2:])) == (0x81, MESSAGE_BYTES)
            assert len(wire.read(MESSAGE_BYTES)) == MESSAGE_BYTES
        assert all(resident_kib(pid) < before[pid] + GROWTH_KIB for pid in pids)
    assert sockets.notes()[-1] == f"sent {count - 1}"


def standing_still(sockets: Sockets) -> int:
    """How many notes there are when no more come, although the application is asked again and again."""
    seen, looks = 0, 0
    while looks < 20:
        count = len(sockets.notes())
        seen, looks = count, looks + 1 if count == seen else 0
    return seen


def test_sockets_leave_nothing_behind(sockets: Sockets, background: ThreadPoolExecutor) -> None:
    served = sockets.served

    def talk(_: int) -> None:
        with sockets.open("echo") as socket:
            socket.send("a")
            assert socket.recv() == "a"

    list(background.map(talk, range(64)))
    pids = (served.pid, *served.workers())
    eventually(lambda: metric(served, "samovar_in_flight", model="sockets") == 0, "it has ended")
    before = {pid: descriptors(pid) for pid in pids}
    list(background.map(talk, range(100)))
    eventually(lambda: metric(served, "samovar_in_flight", model="sockets") == 0, "all have ended")
    eventually(lambda: all(descriptors(pid) <= before[pid] for pid in pids), "every descriptor is closed")


def test_a_stop_waits_for_sockets_no_longer_than_it_may(serve: Serve) -> None:
    sockets = Sockets(serve("sockets.py", options=["--drain-timeout-s", "0.5"]))
    with sockets.open("echo") as socket, sockets.open("hang") as deaf:
        eventually(lambda: sockets.notes().count("accepted") == 2, "both are open")
        sockets.served.process.send_signal(signal.SIGTERM)
        for each in (socket, deaf):
            with pytest.raises(ConnectionClosed):
                each.recv()
    assert sockets.served.process.wait(10) == 0
    assert sockets.served.wait_gone() == []


def test_a_socket_goes_on_until_the_drain_delay_is_over_and_is_then_told_to_close(serve: Serve) -> None:
    sockets = Sockets(serve("sockets.py", options=["--drain-delay-s", "1"]))
    with sockets.open("echo") as socket:
        eventually(lambda: sockets.notes() == ["accepted"], "it is open")
        sockets.served.process.send_signal(signal.SIGTERM)
        eventually(lambda: "draining" in sockets.served.output(), "it drains")
        socket.send("still")
        assert socket.recv() == "still"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == CloseCode.GOING_AWAY
    assert sockets.served.process.wait(10) == 0, "nobody waits for the drain time"


def test_a_service_that_still_sends_when_it_is_told_of_a_stop_may_go_on(serve: Serve) -> None:
    sockets = Sockets(serve("sockets.py"))
    count = 400  # more than the buffers between the application and the test hold
    with sockets.open(f"pour/{count}") as socket:
        assert socket.recv()
        sockets.served.process.send_signal(signal.SIGTERM)
        eventually(lambda: "draining" in sockets.served.output(), "it drains")
        for _ in range(count - 1):
            assert socket.recv()
    assert sockets.served.process.wait(10) == 0


def test_a_dead_worker_ends_its_sockets_and_the_next_opens_new_ones(serve: Serve) -> None:
    served = serve("sockets.py", options=["--spare-workers", "0"])
    sockets = Sockets(served)
    with sockets.open("echo") as socket:
        eventually(lambda: sockets.notes() == ["accepted"], "it is open")
        (pid,) = served.workers()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectionClosedError):
            socket.recv()
    eventually(lambda: is_echoing(served), "the service is back")


def is_echoing(served: Served) -> bool:
    if served.http.get("/v2/models/sockets/ready").status != 200:
        return False
    with Sockets(served).open("echo") as socket:
        socket.send("again")
        return socket.recv() == "again"
