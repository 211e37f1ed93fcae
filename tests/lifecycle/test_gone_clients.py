"""Clients that go away: nothing runs for them, who runs for them is told, and nobody else notices."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from http_door import Answer
from lifecycle.leaving import WAYS, Leaving
from notes import Notes
from serving import Serve, Served, both_transports
from sharing import start
from watching import descriptors, eventually, keyed, keys_in, metric, run, value, wait_begun

BLOCK_S = 3.0
"""Long enough for others to come and go meanwhile, on a busy machine too."""
BURST = 48
SLACK = 4
"""Descriptors of shared memory that come and go."""


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An engine that outlives its tests."""
    served = start(["mortal.py:Mortal", "big.py:Grow", "held.py"], tmp_path_factory.mktemp("engine"), "shm")
    try:
        yield served
        assert served.stop() == 0, served.output()
    finally:
        served.destroy()


def check_nothing_leaked(served: Served, background: ThreadPoolExecutor, before: dict[int, int]) -> None:
    """No slot, no place in the queue, no descriptor."""
    eventually(lambda: metric(served, "samovar_in_flight") == 0, "every slot is free")
    eventually(lambda: metric(served, "samovar_queue_items") == 0, "nothing waits")
    burst(served, background)
    eventually(lambda: all(descriptors(pid) <= before[pid] for pid in before), "every descriptor is closed")


def burst(served: Served, background: ThreadPoolExecutor) -> None:
    """More requests at a time than fit into a call."""
    asked = [background.submit(run, served.http, "mortal", key, 0.01) for key in range(1, BURST + 1)]
    assert [value(answer.result(), "double") for answer in asked] == [2 * key for key in range(1, BURST + 1)]


def open_descriptors(served: Served, background: ThreadPoolExecutor) -> dict[int, int]:
    """How many descriptors engine and workers may have, with what the first requests open."""
    burst(served, background)
    served.grpc.infer("grow", {"mebibytes": np.array([[6]], np.int32)})
    return {pid: descriptors(pid) + SLACK for pid in (served.pid, *served.workers())}


@both_transports
def test_what_waits_for_clients_that_are_gone_never_runs(
    serve: Serve, runs: Path, background: ThreadPoolExecutor
) -> None:
    served = serve("mortal.py:Mortal")
    blocker = background.submit(run, served.http, "mortal", 1, BLOCK_S)
    wait_begun(runs, 1)
    with ExitStack() as stack:
        gone = [
            stack.enter_context(Leaving.open(served, way, "mortal", keyed(100 + number)))
            for number, way in enumerate(WAYS)
        ]
        stays = background.submit(run, served.http, "mortal", 2)
        for client in gone:
            client.send()
        eventually(lambda: metric(served, "samovar_queue_items") == len(WAYS) + 1, "all wait")
        for client in gone:
            client.leave()
        eventually(lambda: metric(served, "samovar_queue_items") == 1, "they are forgotten")
        assert not blocker.done()
        assert value(stays.result(), "double") == 4
        assert value(blocker.result(), "double") == 2
    assert keys_in(runs) == [1, 2]
    assert metric(served, "samovar_cancelled_total", model="mortal", stage="queue") == len(WAYS)


@pytest.mark.parametrize("way", WAYS)
def test_who_runs_for_a_client_that_is_gone_is_told(idle: Served, tmp_path: Path, way: str) -> None:
    notes = Notes.within(tmp_path)
    with Leaving.open(idle, way, "polling", {"note": np.array([str(notes.note).encode()], object)}) as client:
        client.send()
        notes.wait("poll")
        client.leave()
        notes.wait("seen")
    eventually(lambda: metric(idle, "samovar_in_flight", model="polling") == 0, "its slot is free")


@pytest.mark.parametrize("way", ["RST", "RST_STREAM", "cancel"])
def test_mates_of_one_who_leaves_a_running_batch_get_their_answers(
    serve: Serve, runs: Path, background: ThreadPoolExecutor, way: str
) -> None:
    served = serve("mortal.py:Mortal", options=["--spare-workers", "0"])
    blocker = background.submit(run, served.http, "mortal", 1, BLOCK_S)
    wait_begun(runs, 1)
    with Leaving.open(served, way, "mortal", keyed(2)) as client:
        mates: list[Future[Answer]] = [background.submit(run, served.http, "mortal", key, 0.3) for key in (3, 4)]
        client.send()
        eventually(lambda: metric(served, "samovar_queue_items") == 3, "three wait")
        wait_begun(runs, 2)
        client.leave()
        assert [value(mate.result(), "double") for mate in mates] == [6, 8]
        assert [value(mate.result(), "rows") for mate in mates] == [3, 3]
    assert value(blocker.result(), "double") == 2
    eventually(lambda: metric(served, "samovar_in_flight") == 0, "the slot is free")
    assert sorted(keys_in(runs)) == [1, 2, 3, 4], "nothing ran twice"


@dataclass(frozen=True)
class Fate:
    """What one client does: it sends a share of its request, waits, and leaves; or it stays."""

    way: str
    share: float
    wait_s: float
    stays: bool


def fates(seed: int, count: int) -> list[Fate]:
    """Clients of every kind, in any order; a third of them stays."""
    chance = random.Random(seed)
    return [
        Fate(
            way=chance.choice(WAYS),
            share=1.0 if chance.random() < 0.7 else chance.random(),
            wait_s=chance.uniform(0, 0.06),
            stays=chance.random() < 0.33,
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clients_that_leave_at_any_moment_leave_nothing_behind(
    idle: Served, background: ThreadPoolExecutor, seed: int
) -> None:
    before = open_descriptors(idle, background)

    def live(number: int, fate: Fate) -> None:
        key = 1_000 * seed + number
        if fate.stays:
            assert value(run(idle.http, "mortal", key, 0.01), "double") == 2 * key
            return
        with Leaving.open(idle, fate.way, "mortal", keyed(key, 0.01)) as client:
            client.send(fate.share)
            time.sleep(fate.wait_s)  # the moment at which it leaves, not a wait for anything
            client.leave()

    lives = [background.submit(live, number, fate) for number, fate in enumerate(fates(seed, 200), 1)]
    for each in lives:
        each.result()
    check_nothing_leaked(idle, background, before)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "cancel"])  # whose user sees whole answers alone
def test_clients_that_leave_in_the_middle_of_their_answer_leave_nothing_behind(
    idle: Served, background: ThreadPoolExecutor, way: str
) -> None:
    before = open_descriptors(idle, background)
    for _ in range(2 * SLACK):
        with Leaving.open(idle, way, "grow", {"mebibytes": np.array([[6]], np.int32)}) as client:
            client.send()
            client.read()
            client.leave()
    check_nothing_leaked(idle, background, before)
