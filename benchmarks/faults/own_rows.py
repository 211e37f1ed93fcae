"""The rows that Samovar goes through alone: poison, memory, crash loops, new versions, loads, sudden ends."""

import asyncio
import itertools
import math
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
from benchmarks.faults.client import Ask, Client
from benchmarks.faults.figures import asks_of, classes, count, p99_ratio, percent, settle
from benchmarks.faults.rows import SHARE, Figures, Pair, Scale, Stalled, sleeping, stall_once, stalled_figures
from benchmarks.faults.stage import Stage
from benchmarks.peers import base, checked_plain
from benchmarks.peers.checked_plain import ABORT, GROW, GROW_AND_ABORT
from benchmarks.peers.samovar import MODELS, Samovar
from benchmarks.work import CHECKED, Work

VICTIM = Work("victim", CHECKED.inputs, CHECKED.right)
POISON_EVERY, POISON_SLEEP_S, POISON_RATE = 500, 0.005, 400.0
HUNGRY_EVERY, MEMORY_BYTES = 50, 2 << 30
BROKEN_EVERY = 10
STORM_MODELS, STORM_TIMES = 8, 3
LONGER = 3
"""Times the pieces of other rows, where what is wanted is within 10 %: a p99 of 18 s is that of 14 requests."""


def program(**options: object) -> str:
    """The model with these options."""
    listed = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return (MODELS / "checked.py").read_text().replace("@samovar.model", f"@samovar.model({listed})")


def write(folder: Path, text: str) -> None:
    """A version of a repository."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(checked_plain.__file__, folder)
    (folder / "model.py").write_text(text)


@contextmanager
def repository(text: str, *options: str) -> Iterator[tuple[Path, Stage]]:
    """An engine with a folder of models, of which "checked" is there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "models"
        write(folder / "checked" / "1", text)
        with Stage(Samovar(folder, "--control", "explicit", *options)) as stage:
            yield folder, stage


def stall(peer: base.Peer, scale: Scale) -> Figures:
    """A victim stalls, by SIGSTOP and a loop in C in turn, beside a model whose two workers are at 80 %."""
    del peer
    with repository(program(max_batch_size=1, instances=2)) as (folder, stage):
        write(folder / "victim" / "1", program(hard_kill_after_s=0.5))
        _load(stage, "victim")
        stage.remember()
        figures = asyncio.run(_stall(stage, scale))
        return {**figures, "leaked": stage.leaked()}


async def _stall(stage: Stage, scale: Scale) -> Figures:
    found: list[Stalled] = []
    port = stage.running.ports.http
    async with Client(stage.peer, port) as client, Client(stage.peer, port, VICTIM) as victim:

        async def stall_next() -> None:
            found.append(await stall_once(victim, is_stopped=len(found) % 2 == 0))

        rate = SHARE * await client.saturate(8, 2.0, sleeping)
        pairs = [await _pair(client, rate, scale.piece_s, stall_next) for _ in range(scale.pairs)]
    beside = asks_of(pairs)
    figures = stalled_figures(found)
    return {
        **figures,
        "requests": len(beside),
        "error": figures["error"] + count(beside, "error", "late", "refused", "unreachable"),
        "lost": figures["lost"] + count(beside, "lost"),
        "wrong": figures["wrong"] + count(beside, "wrong"),
        **p99_ratio(pairs),
        "rate": rate,
    }


async def _pair(client: Client, rate: float, seconds: float, harm: Callable[[], Awaitable[None]]) -> Pair:
    """A piece of load without harm, and one in which it is done over and over."""
    quiet: list[Ask] = []
    await client.load(rate, seconds, sleeping, quiet)
    fault: list[Ask] = []
    load = asyncio.create_task(client.load(rate, seconds, sleeping, fault))
    while not load.done():
        await harm()
    await load
    return quiet, fault


def poison(peer: base.Peer, scale: Scale) -> Figures:
    """One request of 500 aborts the worker that runs it; the others share batches with it."""
    del peer
    with repository(program(instances=2)) as (_, stage):
        figures = asyncio.run(_poison(stage, scale))
        return {**figures, "leaked": stage.leaked()}


async def _poison(stage: Stage, scale: Scale) -> Figures:
    asks: list[Ask] = []
    number = itertools.count(POISON_EVERY // 2)

    def one() -> Ask:
        return Ask(POISON_SLEEP_S, ABORT if next(number) % POISON_EVERY == 0 else checked_plain.FAIR)

    async with Client(stage.peer, stage.running.ports.http) as client:
        rate = min(POISON_RATE, SHARE * await client.saturate(8, 2.0, lambda: Ask(POISON_SLEEP_S)))
        await client.load(rate, scale.poisons * POISON_EVERY / rate, one, asks)
    innocent = [ask for ask in asks if ask.deed != ABORT]
    poisons = [ask for ask in asks if ask.deed == ABORT]
    return {
        **classes(innocent),
        "requests": len(asks),
        "poisons": len(poisons),
        "told_pct": percent(sum(b'"poison_item"' in ask.body for ask in poisons), len(poisons)),
        "deaths_per_poison": len(stage.deaths()) / len(poisons),
        "rate": rate,
    }


def memory(peer: base.Peer, scale: Scale) -> Figures:
    """One request of 50 takes more memory than max_memory_bytes allows, and fails or, each second, dies of it."""
    del peer
    with repository(program(max_batch_size=1, instances=2, max_memory_bytes=MEMORY_BYTES)) as (_, stage):
        figures = asyncio.run(_memory(stage, scale))
        return {**figures, "leaked": stage.leaked()}


async def _memory(stage: Stage, scale: Scale) -> Figures:
    asks: list[Ask] = []
    number = itertools.count(HUNGRY_EVERY // 2)
    deeds = itertools.cycle((GROW, GROW_AND_ABORT))

    def one() -> Ask:
        return Ask(0.02, next(deeds) if next(number) % HUNGRY_EVERY == 0 else checked_plain.FAIR)

    async with Client(stage.peer, stage.running.ports.http) as client:
        rate = SHARE * await client.saturate(8, 2.0, sleeping)
        above = _workers_are_killed_first(stage)
        await client.load(rate, scale.pairs * scale.piece_s, one, asks)
    innocent = [ask for ask in asks if ask.deed == checked_plain.FAIR]
    hungry = [ask for ask in asks if ask.deed != checked_plain.FAIR]
    settle(innocent, stage.runs())
    return {
        **classes(innocent),
        "requests": len(asks),
        "hungry": len(hungry),
        "told_pct": percent(sum(ask.kind == "error" and ask.status == 500 for ask in hungry), len(hungry)),
        "engine_ended": float(not stage.process.is_running()),
        "workers_first": float(above),
        "rate": rate,
    }


def _workers_are_killed_first(stage: Stage) -> bool:
    """Whether the kernel would choose any worker before the engine."""
    engine, *workers = (int(Path(f"/proc/{one.pid}/oom_score_adj").read_text()) for one in base.tree(stage.process))
    return all(score > engine for score in workers)


def crash_loop(peer: base.Peer, scale: Scale) -> Figures:
    """A model that dies in its load is loaded until it is given up, beside one at 80 %."""
    del peer
    with repository(program(max_batch_size=1, instances=2)) as (folder, stage):
        dying = program(max_batch_size=1).replace(
            "    def predict", '    def load(self) -> None:\n        __import__("os")._exit(3)\n\n    def predict'
        )
        write(folder / "dying" / "1", dying)
        figures = asyncio.run(_crash_loop(stage, scale))
        return {**figures, "leaked": stage.leaked()}


async def _crash_loop(stage: Stage, scale: Scale) -> Figures:
    pairs: list[Pair] = []
    took: list[float] = []
    refused = 0
    async with Client(stage.peer, stage.running.ports.http) as client:
        rate = SHARE * await client.saturate(8, 2.0, sleeping)
        for _ in range((scale.pairs + 1) // 2):
            quiet: list[Ask] = []
            await client.load(rate, scale.piece_s, sleeping, quiet)
            fault: list[Ask] = []
            began = time.monotonic()
            is_over = asyncio.Event()
            load = asyncio.create_task(client.load(rate, math.inf, sleeping, fault, is_over))
            refused += (await asyncio.to_thread(_load, stage, "dying")).status_code == 500
            is_over.set()
            await load
            took.append(time.monotonic() - began)
            pairs.append((quiet, fault))
    every = asks_of(pairs)
    return {
        **classes(every),
        "loads": len(took),
        "given_up_pct": percent(refused, len(took)),
        "deaths_per_load": len(stage.deaths("ended by exit status 3")) / len(took),
        "given_up_s": max(took),
        **p99_ratio(pairs),
        "rate": rate,
    }


def loading(peer: base.Peer, scale: Scale) -> Figures:
    """A model is loaded and unloaded all the time, beside one at 80 %."""
    del peer
    with repository(program(max_batch_size=1, instances=2)) as (folder, stage):
        write(folder / "cycled" / "1", program())
        _cycle(stage)
        stage.remember()
        figures = asyncio.run(_loading(stage, scale))
        return {**figures, "leaked": stage.leaked()}


async def _loading(stage: Stage, scale: Scale) -> Figures:
    loads = 0

    async def cycle() -> None:
        nonlocal loads
        await asyncio.to_thread(_cycle, stage)
        loads += 1

    async with Client(stage.peer, stage.running.ports.http) as client:
        rate = SHARE * await client.saturate(8, 2.0, sleeping)
        pairs = [await _pair(client, rate, LONGER * scale.piece_s, cycle) for _ in range(scale.pairs)]
    return {**classes(asks_of(pairs)), "loads": loads, **p99_ratio(pairs), "rate": rate}


def swap(peer: base.Peer, scale: Scale) -> Figures:
    """A new version takes over, again and again, under load; one of ten is broken."""
    del peer
    with repository(_marked(1)) as (folder, stage):
        figures = asyncio.run(_swap(stage, folder, scale))
        return {**figures, "leaked": stage.leaked()}


def _marked(number: int, *, is_broken: bool = False) -> str:
    text = program(max_batch_size=1, instances=2).replace("run(x)", f"run(x, {number})")
    return text.replace("import numpy", "import missing_module, numpy") if is_broken else text


async def _swap(stage: Stage, folder: Path, scale: Scale) -> Figures:
    pairs: list[Pair] = []
    spans = {1: (0.0, math.inf)}
    broken, rolled_back, current, version = 0, 0, 1, 1
    async with Client(stage.peer, stage.running.ports.http) as client:
        rate = SHARE * await client.saturate(8, 2.0, sleeping)
        for _ in range(scale.pairs):
            quiet: list[Ask] = []
            await client.load(rate, scale.piece_s / 2, sleeping, quiet)
            fault: list[Ask] = []
            is_over = asyncio.Event()
            load = asyncio.create_task(client.load(rate, math.inf, sleeping, fault, is_over))
            for _ in range(max(1, scale.swaps // scale.pairs)):
                version += 1
                is_broken = version % BROKEN_EVERY == 0
                began = time.monotonic()
                new, old = (folder / "checked" / str(number) for number in (version, current))
                await asyncio.to_thread(write, new, _marked(version, is_broken=is_broken))
                if not is_broken:
                    shutil.rmtree(old)
                answer = await asyncio.to_thread(_load, stage, "checked")
                if (answer.status_code == 200) is is_broken:
                    raise SystemExit(f"the load of version {version} answered {answer.status_code}: {answer.text}")
                if is_broken:
                    broken += 1
                    rolled_back += (await client.send(Ask())).mark == current
                    shutil.rmtree(new)
                else:
                    spans[current] = (spans[current][0], time.monotonic())
                    spans[version] = (began, math.inf)
                    current = version
            is_over.set()
            await load
            pairs.append((quiet, fault))
    every = asks_of(pairs)
    return {
        **classes(every),
        "swaps": version - 1,
        "broken": broken,
        "rolled_back_pct": percent(rolled_back, broken),
        "mixed": sum(not _fits(ask, spans) for ask in every if ask.kind == "ok"),
        **p99_ratio(pairs),
        "rate": rate,
    }


def _fits(ask: Ask, spans: Mapping[int, tuple[float, float]]) -> bool:
    """Whether the version that answered was being loaded, current, or replaced while the request was under way."""
    first, last = spans.get(ask.mark, (math.inf, 0.0))
    return ask.sent <= last and ask.ended >= first


def storm(peer: base.Peer, scale: Scale) -> Figures:
    """Many threads load and unload the same few models at random, beside one that is asked all the time."""
    del peer
    with repository(program(max_batch_size=1)) as (folder, stage):
        names = [f"storm{number}" for number in range(STORM_MODELS)]
        for name in names:
            write(folder / name / "1", program())
            _load(stage, name)
            _unload(stage, name)
        stage.remember()
        before = stage.process.memory_info().rss
        figures = asyncio.run(_storm(stage, names, scale))
        for name in names:
            _unload(stage, name)
        grown = percent(stage.process.memory_info().rss - before, before)
        return {**figures, "rss_pct": grown, "leaked": stage.leaked()}


async def _storm(stage: Stage, names: list[str], scale: Scale) -> Figures:
    asks: list[Ask] = []
    statuses: list[int] = []

    def one(thread: int) -> None:
        for turn in range(STORM_TIMES):
            name = names[(thread * 7 + turn) % len(names)]
            statuses.extend(act(stage, name).status_code for act in (_load, _unload))

    async with Client(stage.peer, stage.running.ports.http) as client:
        is_over = asyncio.Event()
        load = asyncio.create_task(client.load(20.0, math.inf, sleeping, asks, is_over))
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(scale.storm) as threads:
            await asyncio.gather(*(loop.run_in_executor(threads, one, number) for number in range(scale.storm)))
        is_over.set()
        await load
    return {
        **classes(asks),
        "operations": len(statuses),
        "refused_operations": sum(status != 200 for status in statuses),
        "engine_ended": float(not stage.process.is_running()),
    }


def tree(peer: base.Peer, scale: Scale) -> Figures:
    """SIGKILL of the engine alone, and of all its processes at once; then loads and unloads, one after the other."""
    orphans, shm, took = 0, 0, []
    for turn in range(scale.trees):
        with Stage(peer, {"workers": 2}) as stage:
            everything = base.tree(stage.process)
            shm += stage.new_in_shm()
            began = time.monotonic()
            for one in everything[: 1 if turn % 2 else None]:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
            while (left := stage.left()) and time.monotonic() < began + 5:
                time.sleep(0.005)
            took.append(time.monotonic() - began)
            orphans += len(left)
            shm += stage.new_in_shm()
    return {"ends": scale.trees, "orphans": orphans, "in_shm": shm, "gone_s": max(took), **_cycles(scale)}


def _cycles(scale: Scale) -> Figures:
    """Loads and unloads of one model: over the second half the slope of the engine's memory, and what it holds."""
    with repository(program(max_batch_size=1)) as (folder, stage):
        write(folder / "cycled" / "1", program())
        _cycle(stage)
        stage.remember()
        sizes, middle = [], stage.resting()
        for cycle in range(scale.cycles):
            _cycle(stage)
            sizes.append(stage.process.memory_info().rss / 1024)
            if cycle == scale.cycles // 2:
                middle = stage.resting()
        half = sizes[len(sizes) // 2 :]
        slope = statistics.linear_regression(range(len(half)), half).slope
        grown = stage.resting() - middle
        return {
            "cycles": scale.cycles,
            "kib_per_cycle": slope,
            "grown": grown.total(),
            "leaked": stage.leaked(),
        }


def _cycle(stage: Stage) -> None:
    for act in (_load, _unload):
        answer = act(stage, "cycled")
        if answer.status_code != 200:
            raise SystemExit(f"{act.__name__} answered {answer.status_code}: {answer.text}")


def _load(stage: Stage, model: str) -> httpx.Response:
    return stage.post(f"/v2/repository/models/{model}/load")


def _unload(stage: Stage, model: str) -> httpx.Response:
    return stage.post(f"/v2/repository/models/{model}/unload")
