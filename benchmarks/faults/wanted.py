"""What is wanted of each row, and what an engine cannot be asked for."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """A figure of ours and its bound."""

    figure: str
    says: str
    most: float | None = None
    least: float | None = None

    @property
    def bound(self) -> str:
        """As tables have it; "" for a figure that is told without a bound."""
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}" if self.least is not None else ""

    def is_met(self, value: float) -> bool:
        """Of a figure with a bound."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)


NONE = tuple(Wanted(name, name, most=0) for name in ("lost", "wrong", "leaked"))
OTHERS = Wanted("failed", "other answers than 200", most=0)

WANTED: Mapping[str, tuple[Wanted, ...]] = {
    "kill": (
        *NONE,
        OTHERS,
        Wanted("failed_per_kill", "failed requests per kill"),
        Wanted("detected_ms", "death seen after, ms, worst", most=50),
        Wanted("p99_ratio", "p99 by p99 without kills", most=3),
    ),
    "stall": (
        *NONE,
        Wanted("in_time_pct", "told within the deadline + 50 ms, %", least=100),
        Wanted("overshoot_ms", "answer after the deadline, ms, worst", most=50),
        Wanted("replaced_pct", "worker replaced, % of stalls", least=100),
        Wanted("replaced_s", "next right answer after the deadline, s, worst", most=2),
        Wanted("p99_ratio", "neighbour's p99 by that without stalls", most=2),
    ),
    "poison": (
        *NONE,
        Wanted("failed", "innocent requests that failed", most=0),
        Wanted("deaths_per_poison", "deaths of workers per poison", most=2),
        Wanted("told_pct", "poisons answered 500 poison_item, %", least=100),
    ),
    "memory": (
        *NONE,
        Wanted("failed", "innocent requests that failed", most=0),
        Wanted("told_pct", "requests beyond the limit answered 500, %", least=100),
        Wanted("engine_ended", "ends of the engine", most=0),
        Wanted("workers_first", "workers are killed before the engine (1: yes)", least=1),
    ),
    "crash-loop": (
        *NONE,
        Wanted("failed", "neighbour's requests that failed", most=0),
        Wanted("given_up_pct", "loads given up with 500, %", least=100),
        Wanted("deaths_per_load", "deaths before that", most=5),
        Wanted("p99_ratio", "neighbour's p99 by that without the loop", most=1.2),
    ),
    "overload": (
        *NONE,
        Wanted("goodput_pct", "goodput, % of the most", least=95),
        Wanted("refusal_p99_ms", "refusal p99, ms", most=10),
        Wanted("retry_after_pct", "refusals with Retry-After, %", least=100),
        Wanted("rss_mib", "engine's memory grew by, MiB", most=64),
    ),
    "drain": (
        *NONE,
        Wanted("lost_per_drain", "accepted requests lost per stop"),
        Wanted("error", "accepted requests answered with an error", most=0),
        Wanted("ready_false_ms", "not ready after, ms, worst", most=100),
        Wanted("exit_not_0", "exit codes other than 0", most=0),
        Wanted("exit_s", "ended after, s, worst", most=1.1),
    ),
    "loading": (
        *NONE,
        OTHERS,
        Wanted("p99_ratio", "p99 by p99 without loads", most=1.1),
    ),
    "swap": (
        *NONE,
        OTHERS,
        Wanted("mixed", "answers of a version that was not current", most=0),
        Wanted("rolled_back_pct", "broken versions that left the old one serving, %", least=100),
        Wanted("p99_ratio", "p99 by p99 without swaps", most=2),
    ),
    "storm": (
        *NONE,
        Wanted("failed", "neighbour's requests that failed", most=0),
        Wanted("engine_ended", "ends of the engine", most=0),
        Wanted("rss_pct", "engine's memory grew by, %", most=5),
    ),
    "vanish": (
        *NONE,
        Wanted("failed", "requests of those who stayed that failed", most=0),
        Wanted("run_pct", "waiting requests of gone clients that ran, %", most=1),
        Wanted("half_closed_run_pct", "the same after a half close, %", most=1),
    ),
    "tree": (
        Wanted("orphans", "processes left by a SIGKILL", most=0),
        Wanted("in_shm", "names in /dev/shm", most=0),
        Wanted("gone_s", "last worker gone after, s, worst", most=1),
        Wanted("kib_per_cycle", "engine's memory per load and unload, KiB", most=1),
        Wanted("grown", "descriptors and threads more after the second half", most=0),
        Wanted("leaked", "leaked", most=0),
    ),
}

SAFETY = frozenset({"lost", "wrong", "leaked", "mixed", "orphans", "in_shm", "engine_ended"})
"""Figures that no shortness or noise of a run excuses."""

CANNOT: Mapping[tuple[str, str], str] = {
    ("stall", "triton"): "it has no deadline for a request that runs, and does not look whether a worker still answers",
    ("stall", "torchserve"): "its `responseTimeout` is per model, in whole seconds; the answer is 500 and not 504",
    ("stall", "mosec"): "its `--timeout` is per server; the answer is 408",
    ("stall", "ray_serve"): "its `request_timeout_s` is per server; the answer is 408; replicas are checked every 10 s",
    ("overload", "triton"): "the bound is `max_queue_size` of its batcher; refusals carry no Retry-After",
    ("overload", "torchserve"): "the bound is `job_queue_size`; refusals are 503 without Retry-After",
    ("overload", "mosec"): "the bound is `--capacity`, running requests included; refusals carry no Retry-After",
    ("overload", "ray_serve"): "the bound is `max_queued_requests`, besides five that each replica holds",
    (
        "drain",
        "triton",
    ): "it has 2 s for it here and 30 by default, which open connections make it spend; exit code 1 then",
}
"""How a peer's means differ from what the row asks for."""
