"""The rows that every engine goes through: workers killed and stopped, overload, stops, clients that vanish."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import httpx
import psutil
from benchmarks.faults.client import Ask, Client, Departure
from benchmarks.faults.figures import asks_of, classes, count, p99_ms, p99_ratio, percent, settle
from benchmarks.faults.stage import Stage
from benchmarks.peers.base import Peer
from benchmarks.peers.checked_plain import FAIR, SPIN

SLEEP_S = 0.02
SHARE = 0.8
"""Of what was measured to be the most; the load under which faults happen."""
KILL_EVERY_S = 2.0
RECENT_S = 0.5
DEADLINE_S = 1.0
QUEUE = 128
VANISHING, VANISH_WITHIN_S, GRACE_S = 0.3, 0.333, 0.01
READY = "/v2/health/ready"
Figures = dict[str, float]
Pair = tuple[list[Ask], list[Ask]]


@dataclass(frozen=True)
class Scale:
    """How much of a row is done."""

    name: str
    pairs: int
    piece_s: float
    overload_s: float
    drains: int
    vanishing: int
    """Requests, of which three in ten vanish."""
    poisons: int
    swaps: int
    storm: int
    """Threads, each of which loads and unloads three times."""
    trees: int
    """Engines that are killed."""
    cycles: int
    """Loads and unloads, one after the other."""


def sleeping() -> Ask:
    """20 ms."""
    return Ask(SLEEP_S)


def kill(peer: Peer, scale: Scale) -> Figures:
    """SIGKILL a worker of four, every two seconds."""
    with Stage(peer, {"workers": 4}) as stage:
        figures = asyncio.run(_kill(stage, scale))
        return {**figures, "leaked": stage.leaked()}


async def _kill(stage: Stage, scale: Scale) -> Figures:
    pairs: list[Pair] = []
    killed: dict[float, float] = {}
    async with Client(stage.peer, stage.running.ports.http) as client:
        rate = SHARE * await client.saturate(16, 2.0, sleeping)
        for _ in range(scale.pairs):
            quiet: list[Ask] = []
            await client.load(rate, scale.piece_s, sleeping, quiet)
            fault: list[Ask] = []
            async with asyncio.TaskGroup() as group:
                group.create_task(client.load(rate, scale.piece_s, sleeping, fault))
                group.create_task(_killer(scale.piece_s, quiet, fault, killed))
            pairs.append((quiet, fault))
    every = asks_of(pairs)
    settle(every, stage.runs())
    if not killed:
        raise SystemExit(f"{stage.peer.name} answered nothing: there was nobody to kill")
    seen = [_seen_s(moment, every) for moment in killed]
    if stage.is_ours:
        told = stage.deaths()
        seen = [min((death - wall for death in told if death > wall - 0.001), default=9.9) for wall in killed.values()]
    return {
        **classes(every),
        "kills": len(killed),
        "failed_per_kill": (len(every) - count(every, "ok")) / len(killed),
        "detected_ms": max(seen) * 1e3,
        **p99_ratio(pairs),
        "rate": rate,
    }


async def _killer(seconds: float, quiet: list[Ask], fault: list[Ask], killed: dict[float, float]) -> None:
    """Kills by what answers said of their process. Remembers by time.monotonic and time.time."""
    chance = random.Random(len(killed))
    for number in range(max(1, int(seconds / KILL_EVERY_S))):
        await asyncio.sleep(KILL_EVERY_S / 2 if number == 0 else KILL_EVERY_S)
        victims = sorted(recent(quiet + fault))
        if victims:
            killed[time.monotonic()] = time.time()
            with suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)


def recent(asks: Sequence[Ask]) -> set[int]:
    """The processes that answered within the last half second."""
    since = time.monotonic() - RECENT_S
    found = {ask.pid for ask in asks if ask.kind == "ok" and ask.ended > since}
    return {pid for pid in found if psutil.pid_exists(pid)}


def _seen_s(moment: float, asks: Iterable[Ask]) -> float:
    """From a death to the first failure after it, or the first answer of a process that was not there before."""
    before = {ask.pid for ask in asks if ask.kind == "ok" and ask.ended < moment}
    signs = (ask.ended for ask in asks if ask.ended > moment and (ask.kind != "ok" or ask.pid not in before))
    return min(signs, default=moment + 9.9) - moment


def stall(peer: Peer, scale: Scale) -> Figures:
    """The only worker stops, by SIGSTOP and in a loop in C that keeps the GIL; requests have a deadline of 1 s."""
    del scale
    found: list[Stalled] = []
    leaked = 0
    for is_stopped in (True, False):
        with Stage(peer, {"workers": 1, "deadline_s": 1}) as stage:
            found.append(asyncio.run(_stall_once(stage, is_stopped=is_stopped)))
            leaked += stage.leaked()
    return {**stalled_figures(found), "leaked": leaked}


async def _stall_once(stage: Stage, *, is_stopped: bool) -> "Stalled":
    async with Client(stage.peer, stage.running.ports.http) as client:
        return await stall_once(client, is_stopped=is_stopped)


@dataclass(frozen=True)
class Stalled:
    """The request that met the stall, those sent until one was answered, and how long after the deadline that was."""

    victim: Ask
    later: list[Ask]
    replaced_s: float | None


async def stall_once(client: Client, *, is_stopped: bool, wait_s: float = 8.0) -> Stalled:
    """Stall the worker that answers, and wait until another one does."""
    first = await client.send(Ask())
    if first.kind != "ok":
        raise SystemExit(f"there is no worker to stall: {first.kind} {first.body.decode()}")
    pid = first.pid
    if is_stopped:
        os.kill(pid, signal.SIGSTOP)
    victim = await client.send(Ask(deed=FAIR if is_stopped else SPIN, deadline_s=DEADLINE_S, patience_s=5.0))
    late = victim.due + DEADLINE_S
    later: list[Ask] = []
    while time.monotonic() < late + wait_s:
        later.append(await client.send(Ask(deadline_s=DEADLINE_S, patience_s=late + wait_s - time.monotonic())))
        if later[-1].kind == "ok":
            return Stalled(victim, later, later[-1].ended - late)
        await asyncio.sleep(0.02)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # or it would run on after its engine
    return Stalled(victim, later, None)


def stalled_figures(found: Sequence[Stalled]) -> Figures:
    """Overshoot of the deadline, and how long until another worker answered; only where one did."""
    victims = [one.victim for one in found]
    back = [one.replaced_s for one in found if one.replaced_s is not None]
    in_time = [ask for ask in victims if ask.kind in {"late", "error"} and ask.took_s <= DEADLINE_S + 0.05]
    return {
        "stalls": len(found),
        **{kind: count(victims, kind) for kind in ("late", "error", "lost", "wrong")},
        "in_time_pct": percent(len(in_time), len(found)),
        "overshoot_ms": max(ask.took_s - DEADLINE_S for ask in victims) * 1e3,
        "replaced_pct": percent(len(back), len(found)),
        **({"replaced_s": max(back)} if back else {}),
    }


def overload(peer: Peer, scale: Scale) -> Figures:
    """Five times what two workers can do, with a queue of 128."""
    with Stage(peer, {"workers": 2, "queue": QUEUE}) as stage:
        figures = asyncio.run(_overload(stage, scale))
        return {**figures, "leaked": stage.leaked()}


async def _overload(stage: Stage, scale: Scale) -> Figures:
    asks: list[Ask] = []
    async with Client(stage.peer, stage.running.ports.http) as client:
        most = await client.saturate(8, 3.0, sleeping)
        before = stage.process.memory_info().rss
        began = time.monotonic()
        await client.load(5 * most, scale.overload_s, sleeping, asks)
        grown = stage.process.memory_info().rss - before
    settle(asks, stage.runs())
    served = [ask for ask in asks if ask.kind == "ok" and ask.ended < began + scale.overload_s]
    refused = [ask for ask in asks if ask.kind == "refused"]
    return {
        **classes(asks),
        "goodput_pct": percent(len(served) / scale.overload_s, most),
        "refusal_p99_ms": p99_ms(asks, "refused") if refused else 0.0,
        "retry_after_pct": percent(sum(ask.retry_after for ask in refused), len(refused)),
        "rss_mib": grown / 2**20,
        "rate": 5 * most,
    }


def drain(peer: Peer, scale: Scale) -> Figures:
    """SIGTERM under load, as often as the scale says, each with an engine of its own."""
    found = []
    rate = 0.0
    for _ in range(scale.drains):
        with Stage(peer, {"workers": 2}) as stage:
            rate, figures = asyncio.run(_drain(stage, rate))
            found.append({**figures, "leaked": stage.leaked()})
    most = ("exit_s", "ready_false_ms")
    totals = {name: (max if name in most else sum)(one[name] for one in found) for name in found[0]}
    return {"drains": len(found), **totals, "lost_per_drain": totals["lost"] / len(found), "rate": rate}


async def _drain(stage: Stage, rate: float) -> tuple[float, Figures]:
    asks: list[Ask] = []
    door = httpx.AsyncClient(base_url=stage.running.url("json"))
    async with Client(stage.peer, stage.running.ports.http) as client, door:
        if not rate:
            rate = SHARE * await client.saturate(8, 2.0, sleeping)
        async with asyncio.TaskGroup() as group:
            group.create_task(client.load(rate, 1.6, sleeping, asks))
            await asyncio.sleep(0.8)
            if stage.is_ours:
                await door.get(READY)  # a connection that is opened after the signal may wait for the load beside it
            asked = time.monotonic()
            stage.terminate()
            ready = group.create_task(_ready_false_s(door) if stage.is_ours else asyncio.sleep(0, 0.0))
            await asyncio.to_thread(stage.stop, is_asked=True)
            gone = time.monotonic()
    runs = stage.runs()
    settle(asks, runs)
    for ask in asks:
        if ask.kind == "lost" and ask.sent > asked and ask.id not in runs:
            ask.kind = "unreachable"  # the connection ended while it was sent: nobody took it
    figures = {**classes(asks), "exit_not_0": float(stage.exit_code != 0), "exit_s": gone - asked}
    return rate, {**figures, **({"ready_false_ms": (await ready) * 1e3} if stage.is_ours else {})}


async def _ready_false_s(door: httpx.AsyncClient) -> float:
    """From now until readiness is false or nobody answers."""
    began = time.monotonic()
    with suppress(httpx.TransportError):
        while (await door.get(READY)).status_code == 200:
            pass
    return time.monotonic() - began


def vanish(peer: Peer, scale: Scale) -> Figures:
    """Three clients of ten go before their answer: by FIN, RST, and half close in turn."""
    with Stage(peer, {"workers": 2}) as stage:
        figures = asyncio.run(_vanish(stage, scale))
        return {**figures, "leaked": stage.leaked()}


async def _vanish(stage: Stage, scale: Scale) -> Figures:
    chance = random.Random(0)
    departures: Any = cycle(("fin", "rst", "half"))
    asks: list[Ask] = []

    def leaving() -> Ask:
        if chance.random() > VANISHING:
            return sleeping()
        departure: Departure = next(departures)
        return Ask(SLEEP_S, leave_after_s=chance.uniform(0, VANISH_WITHIN_S), departure=departure)

    async with Client(stage.peer, stage.running.ports.http) as client:
        most = await client.saturate(8, 2.0, sleeping)
        rate = 1.3 * most  # a little more than there would be without those who go: there is a queue to go from
        await client.load(rate, scale.vanishing / rate, leaving, asks)
    runs = stage.runs()
    settle(asks, runs)
    stayed = [ask for ask in asks if ask.leave_after_s is None]
    found: Figures = {**classes(stayed), "requests": len(asks), "rate": rate}
    for name, kinds in (("", {"fin", "rst"}), ("half_closed_", {"half"})):
        queued = [ask for ask in asks if ask.kind == "gone" and ask.departure in kinds and _waited(ask, runs)]
        found[f"{name}queued"] = len(queued)
        found[f"{name}run_pct"] = percent(sum(ask.id in runs for ask in queued), len(queued))
    return found


def _waited(ask: Ask, runs: dict[int, list[float]]) -> bool:
    """Whether it had not begun when its client had been gone for 10 ms."""
    return ask.id not in runs or runs[ask.id][0] > ask.left + GRACE_S
