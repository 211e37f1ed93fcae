"""Streams that take long: slow clients, slow generators, deaths and stops in their middle."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from http_door import Wire
from protocol.streams import Streams, lines
from protocol.uploads import error
from serving import Serve, Served, both_transports
from sharing import kept
from watching import descriptors, eventually, metric, resident_kib

ITEM_BYTES = 65_536
GROWTH_KIB = 32 * 1024
POURING = ["pour", "pour_through"]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """An engine with apps/streaming.py per transport."""
    with kept(["streaming.py"], tmp_path_factory, deadly=True) as engine:
        yield engine


@pytest.fixture
def streams(engines: Callable[[str], Served], transport: str, tmp_path: Path) -> Streams:
    """Streams of the engine of this transport."""
    return Streams.of(engines(transport), tmp_path)


def pids(served: Served) -> list[int]:
    return [served.pid, *served.workers()]


def rest(wire: Wire) -> int:
    """The length of what follows."""
    return sum(len(chunk) for chunk in iter(wire.chunk, b""))


@both_transports
@pytest.mark.parametrize("method", POURING)
def test_a_slow_client_slows_the_generator(streams: Streams, method: str) -> None:
    with streams.served.http.wire() as wire:
        streams.begin(wire, method, 3_200)  # 200 MiB
        assert wire.head()[0] == 200
        made = standing_still(streams)
        assert made < 300, "what fits into the buffers of two sockets, and no more"
        assert rest(wire) == 3_200 * ITEM_BYTES
        assert len(streams.notes()) == 3_200


def is_cut(wire: Wire, code: str) -> bool:
    """True if the rest is no item, and the stream breaks off or its last line tells why."""
    try:
        last = b"".join(iter(wire.chunk, b""))
    except EOFError:
        return True
    return str(json.loads(last)["code"]) == code


def standing_still(streams: Streams) -> int:
    """How many items were made when no more are, although the engine answers others meanwhile."""
    streams.wait("made 0")
    seen, looks = -1, 0
    while looks < 100:
        assert streams.served.http.get("/v2/health/live").status == 200
        count = len(streams.notes())
        seen, looks = count, looks + 1 if count == seen else 0
    return seen


@both_transports
@pytest.mark.parametrize("method", POURING)
def test_memory_stays_as_it_is_whatever_flows_through(streams: Streams, method: str) -> None:
    with streams.served.http.wire() as wire:
        streams.begin(wire, method, 64)
        assert wire.head()[0] == 200
        rest(wire)
        before = {pid: resident_kib(pid) for pid in pids(streams.served)}
        streams.begin(wire, method, 3_200)
        assert wire.head()[0] == 200
        most = 0
        for _ in range(320):
            for _ in range(10):
                wire.chunk()
            most = max(most, *(resident_kib(pid) - before[pid] for pid in before))
        assert rest(wire) == 0
    assert most < GROWTH_KIB


def test_a_stream_may_take_longer_than_a_request_as_long_as_it_goes_on(streams: Streams) -> None:
    with streams.served.http.wire() as wire:
        streams.begin(wire, "count", 12, "samovar-timeout-ms: 600", pause=0.2)
        assert wire.answer().body.splitlines() == [b"%d" % number for number in range(12)]


@pytest.mark.parametrize("method", ["count", "through_async"])
def test_a_stream_that_falls_silent_is_cut(streams: Streams, method: str) -> None:
    with streams.served.http.wire() as wire:
        streams.begin(wire, method, 3, "samovar-timeout-ms: 300", hold=0)
        answer = wire.answer()
        assert (answer.status, error(answer)["code"]) == (504, "deadline_exceeded")
    streams.wait("closed")
    streams.note.unlink()
    with streams.served.http.wire() as wire:
        streams.begin(wire, method, 3, "samovar-timeout-ms: 300", hold=1)
        assert wire.head()[0] == 200
        assert wire.chunk() == b"0\n"
        assert is_cut(wire, "deadline_exceeded")
    streams.wait("closed")
    eventually(lambda: metric(streams.served, "samovar_in_flight") == 0, "every slot is free")


def test_a_client_that_takes_nothing_is_cut(serve: Serve, tmp_path: Path) -> None:
    served = serve("streaming.py", options=["--keep-alive-s", "0.5"])
    streams = Streams.of(served, tmp_path)
    with served.http.wire() as wire:
        streams.begin(wire, "pour", 100_000)
        assert wire.head()[0] == 200
        eventually(lambda: metric(served, "samovar_in_flight", model="streams") == 0, "the stream has ended")


@both_transports
@pytest.mark.parametrize("whose", ["service", "model"])
def test_a_death_in_the_middle_breaks_the_stream_off(streams: Streams, whose: str) -> None:
    served = streams.served
    with served.http.wire() as wire:
        streams.begin(wire, "through_async", 3, hold=1)
        assert wire.head()[0] == 200
        assert wire.chunk() == b"0\n"
        os.kill(served.http.get("/streams/pid").json() if whose == "service" else begun_by(streams), signal.SIGKILL)
        assert is_cut(wire, "worker_lost")
        if whose == "service":
            streams.wait("closed")
    streams.go()
    eventually(lambda: served.http.get("/v2/models/streams/ready").status == 200, "all is back")
    assert lines(streams.ask("through_async", 3)) == [0, 1, 2]


def begun_by(streams: Streams) -> int:
    """The process that runs the generator."""
    return int(streams.notes()[0].removeprefix("begun by "))


def test_a_stop_lets_streams_end(serve: Serve, tmp_path: Path) -> None:
    streams = Streams.of(serve("streaming.py"), tmp_path)
    served = streams.served
    with served.http.wire() as wire:
        streams.begin(wire, "through", 3, hold=1)
        assert wire.head()[0] == 200
        assert wire.chunk() == b"0\n"
        served.process.send_signal(signal.SIGTERM)
        eventually(lambda: "draining" in served.output(), "it drains")
        streams.go()
        assert rest(wire) == len(b"1\n2\n")
    assert served.process.wait(10) == 0


def test_a_stop_cuts_streams_that_do_not_end(serve: Serve, tmp_path: Path) -> None:
    served = serve("streaming.py", options=["--drain-timeout-s", "0.5"])
    streams = Streams.of(served, tmp_path)
    with served.http.wire() as wire:
        streams.begin(wire, "through_async", 3, hold=1)
        assert wire.head()[0] == 200
        assert wire.chunk() == b"0\n"
        served.process.send_signal(signal.SIGTERM)
        assert is_cut(wire, "shutting_down")
    assert served.process.wait(10) == 0
    assert served.wait_gone() == []


def test_streams_leave_nothing_behind(streams: Streams, background: ThreadPoolExecutor) -> None:
    def half(number: int) -> None:
        with streams.served.http.wire() as wire:
            streams.begin(wire, ("count", "count_sync", "through", "through_sync")[number % 4], 200)
            assert wire.head()[0] == 200
            for _ in range(number % 7):
                wire.chunk()

    def is_idle() -> bool:
        return metric(streams.served, "samovar_in_flight") == 0

    list(background.map(half, range(64)))
    eventually(is_idle, "all have ended")
    before = {pid: descriptors(pid) for pid in pids(streams.served)}
    list(background.map(half, range(200)))
    eventually(is_idle, "all have ended")
    eventually(lambda: all(descriptors(pid) <= before[pid] for pid in before), "every descriptor is closed")
