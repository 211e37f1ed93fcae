"""Everything that is measured, cut into units: a run that was interrupted goes on after the last one."""

import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks import bare, copies, footprint, growth, hops
from benchmarks.load import Closed, Load, Open, Streams
from benchmarks.measuring import OURS, START, Plan, Sample, Target, measure
from benchmarks.peers.base import Peer
from benchmarks.work import ECHO, IMAGE, PLATES, SHOP, STEADY, Work, blob

ENGINES = (OURS, "triton", "mosec", "litserve", "bentoml", "ray_serve", "torchserve")
MODULES = {"ray_serve": "ray"}
# Seconds that a peer takes to start and to end; for the estimate.
STARTS = {
    OURS: 1,
    "nginx": 1,
    "uvicorn": 2,
    "triton": 4,
    "mosec": 3,
    "litserve": 6,
    "bentoml": 8,
    "ray_serve": 20,
    "torchserve": 11,
}
DEFAULT_START = 10


def peer(name: str) -> Peer:
    """An engine by its name."""
    found: Peer = importlib.import_module(f"benchmarks.peers.{MODULES.get(name, name)}").PEER
    return found


class Workload(Protocol):
    """What the command knows of a workload."""

    @property
    def name(self) -> str:
        """As ONLY takes it."""

    @property
    def title(self) -> str:
        """As people read it."""

    @property
    def peers(self) -> Sequence[str]:
        """Who takes part, Samovar included."""

    @property
    def longer(self) -> int:
        """How many times as long as the plan says: of slow work too much is under way when the time is over."""

    def units(self, plan: Plan, peers: Sequence[str]) -> list[str]:
        """What can be measured on its own, in order."""

    def run(self, unit: str, plan: Plan) -> list[Sample]:
        """Measure one unit."""

    def seconds(self, unit: str, plan: Plan) -> float:
        """About how long that takes."""


@dataclass(frozen=True)
class Comparison:
    """Engines that do the same work under the same loads: each is started anew for each round, alone on the machine."""

    name: str
    title: str
    work: Work
    form: Mapping[str, str] | str
    """In which form each peer takes it; one for all, or by name with "" for the rest."""
    loads: tuple[Load, ...]
    peers: tuple[str, ...]
    tunings: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    """Settings by hand that a run of several rounds measures besides the defaults, under the loads of `tuned_loads`."""
    tuned_loads: tuple[Load, ...] = ()
    longer: int = 1

    def units(self, plan: Plan, peers: Sequence[str]) -> list[str]:
        """Rounds; the order of the peers turns with each."""
        chosen = [name for name in self.peers if name in peers]
        by_hand = {name: self.tunings.get(name, ()) if plan.rounds > 1 else () for name in chosen}
        variants = [one for name in chosen for one in (name, *(f"{name}#{n}" for n in range(len(by_hand[name]))))]
        return [f"{turn}:{name}" for turn in range(plan.rounds) for name in (variants if turn % 2 else variants[::-1])]

    def form_of(self, name: str) -> str:
        """In which form a peer takes the work."""
        return self.form if isinstance(self.form, str) else self.form.get(name, self.form[""])

    def run(self, unit: str, plan: Plan) -> list[Sample]:
        """One peer in one round."""
        name, number = _variant(unit)
        tuning = self.tunings[name][int(number)] if number else {}
        label = f"{name} ({', '.join(f'{key}={value}' for key, value in tuning.items())})" if tuning else name
        one, form = peer(name), self.form_of(name)
        request = one.request(self.work, form, self.work.inputs())
        with tempfile.TemporaryDirectory() as folder, one.serve(self.work, form, Path(folder), tuning) as running:
            target = Target(running, request, form)
            loads = self.tuned_loads if number else self.loads
            samples = [measure(target, load, plan, label) for load in loads]
            if not one.ask(running, self.work, form):
                raise SystemExit(f"{name} gives a wrong answer to {self.name} after the load")
        failed = [sample for sample in samples if sample.figures["errors"] and name == OURS]
        if failed:
            raise SystemExit(f"{failed[0].figures['errors']} requests of {self.name} failed under {failed[0].load}")
        started = {"start_s": running.start_s, "idle_rss_mib": running.idle_rss_mib}
        return [*samples, *([] if number else [Sample(START, label, started)])]

    def seconds(self, unit: str, plan: Plan) -> float:
        """The loads and the start."""
        name, number = _variant(unit)
        loads = self.tuned_loads if number else self.loads
        each = max(1, plan.seconds) + plan.warm_up_s + 0.3
        return STARTS.get(name, DEFAULT_START) + len(loads) * each


def _variant(unit: str) -> tuple[str, str]:
    """The peer of a unit, and the number of its settings by hand; "" for its defaults."""
    name, _, number = unit.split(":", 1)[1].partition("#")
    return name, number


@dataclass(frozen=True)
class Own:
    """Something without another server beside it: a function gives the samples of a round."""

    name: str
    title: str
    measure: Callable[[Plan], list[Sample]]
    takes_s: float
    """Beside the loads."""
    peers: tuple[str, ...] = (OURS,)
    once: bool = False
    longer: int = 1

    def units(self, plan: Plan, peers: Sequence[str]) -> list[str]:
        """Rounds."""
        del peers
        return [str(turn) for turn in range(1 if self.once else plan.rounds)]

    def run(self, unit: str, plan: Plan) -> list[Sample]:
        """One round."""
        del unit
        return self.measure(plan)

    def seconds(self, unit: str, plan: Plan) -> float:
        """A guess."""
        del unit
        return self.takes_s + plan.seconds


CONNECTIONS = tuple(Closed(count) for count in (1, 8, 32, 128, 1024))
GRPC = (Streams(1, 32), Streams(32, 1), Streams(128, 1))
OIP = (OURS, "triton")
SIZES = {"16 KiB": 16 << 10, "1 MiB": 1 << 20, "16 MiB": 16 << 20, "64 MiB": 64 << 20}
TUNINGS = tuple({"max_batch_size": 64, "delay_ms": delay} for delay in (0, 1, 7))
"""max_batch_size and delay_ms by hand: none, a little, and longer than a batch takes."""
BATCHING_ON = {"triton": ({"max_batch_size": 64, "delay_ms": 0},)}
"""Off by default, it helps Triton even with a model that does nothing: more requests go to the model at once."""

WORKLOADS: tuple[Workload, ...] = (
    Comparison(
        "echo-json",
        "echo FP32[1,16], JSON over HTTP",
        ECHO,
        "json",
        CONNECTIONS,
        (*ENGINES, "nginx"),
        BATCHING_ON,
        CONNECTIONS,
    ),
    Comparison(
        "echo-binary", "echo FP32[1,16], binary over HTTP", ECHO, "binary", CONNECTIONS, OIP, BATCHING_ON, CONNECTIONS
    ),
    Comparison("echo-grpc", "echo FP32[1,16], gRPC", ECHO, "grpc", GRPC, OIP, BATCHING_ON, GRPC),
    Comparison(
        "image-json",
        "mean of FP32[1,3,224,224], JSON",
        IMAGE,
        "json",
        (Closed(1), Closed(8)),
        (*OIP, "mosec", "bentoml"),
    ),
    Comparison("image-binary", "mean of FP32[1,3,224,224], binary", IMAGE, "binary", (Closed(1), Closed(8)), OIP),
    Comparison("image-grpc", "mean of FP32[1,3,224,224], gRPC", IMAGE, "grpc", (Streams(1, 1), Streams(8, 1)), OIP),
    *(
        Comparison(
            f"payload-{size.replace(' ', '').lower()}",
            f"UINT8[{size}] there, 8 bytes back",
            blob(SIZES[size]),
            "binary",
            (Closed(1), Closed(4)),
            OIP,
        )
        for size in SIZES
    ),
    Own("copies", "copies in user space of a tensor of 16 MiB", copies.measure, 8.0, once=True),
    Comparison(
        "batching",
        "5 ms a batch and 10 us a row, JSON",
        STEADY,
        "json",
        (Closed(1), Closed(8), Closed(64), Closed(128), Open(100), Open(1000), Open(3000), Open(6000)),
        ENGINES,
        {
            **dict.fromkeys((OURS, "triton", "mosec", "litserve"), TUNINGS),
            OURS: ({"max_batch_size": 1}, *TUNINGS),
        },
        (Closed(1), Closed(64), Closed(128)),
    ),
    Own("cnn", "a small CNN in ONNX, batches of 8, against onnxruntime alone", bare.compare_cnn, 8.0, longer=3),
    Comparison(
        "plates",
        "number plates end to end: JPEG of 1920 x 1080 with six plates",
        PLATES,
        {"": "upload", "triton": "binary"},
        (Closed(1), Closed(8)),
        (OURS, "triton", "torchserve", "bentoml", "ray_serve"),
        longer=5,
    ),
    Own(
        "plates-bare", "number plates against the bare loop in Python, one client", bare.compare_plates, 12.0, longer=5
    ),
    Own("hops", "a step: model -> engine -> model, tensor there, 4 bytes back", hops.measure, 3.0),
    Own("growth-models", "loaded models in shared workers", growth.models, 60.0, once=True),
    Own("growth-connections", "idle connections", growth.connections, 15.0, once=True),
    Own("growth-instances", "instances of one model", growth.instances, 20.0, once=True),
    Own("growth-queue", "requests in flight at a time", growth.queue, 10.0, once=True),
    Own("footprint", "import, wheel, idle memory, start", footprint.measure, 8.0),
    Comparison(
        "service",
        "typed service, one worker",
        SHOP,
        "json",
        (Closed(1), Closed(32)),
        (OURS, "uvicorn", "bentoml", "ray_serve"),
    ),
)
