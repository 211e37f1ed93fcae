"""How often a tensor is copied in user space on its way in and out: counted, not read off the code."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from benchmarks.measuring import OURS, Plan, Sample
from benchmarks.peers.samovar import MODELS, Samovar
from benchmarks.work import Work, blob

SIZE = 16 << 20
REQUESTS = 8


def blank(size: int) -> Work:
    """INT64[1] there, so many bytes back."""
    return Work("blank", lambda: np.array([size]), lambda sent, got: got.size == sent[0])


class Counted(Samovar):
    """Samovar with a library before libc that counts memcpy and memmove."""

    def __init__(self, target: Path, library: Path, counts: Path) -> None:
        super().__init__(target)
        self.preloaded = {"LD_PRELOAD": str(library), "COPIES_FILE": str(counts)}

    def environment(self, folder: Path) -> Mapping[str, str]:
        """See Peer."""
        del folder
        return self.preloaded


def measure(plan: Plan) -> list[Sample]:
    """Copies of each byte of a tensor of 16 MiB, in the engine and its worker together: bytes copied by bytes sent."""
    del plan
    ways = {"in": (blob, MODELS / "length.py"), "out": (blank, MODELS / "blank.py")}
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "copies.so"
        source = Path(__file__).with_suffix(".c")
        flags = ["-O3", "-fno-builtin", "-shared", "-fPIC", "-fno-tree-loop-distribute-patterns"]
        subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", library, source], check=True)
        counts = {way: _count(library, Path(folder) / way, *what) for way, what in ways.items()}
    return [Sample(f"16 MiB {way}", OURS, {"copies": copies}) for way, copies in counts.items()]


def _count(library: Path, folder: Path, work: Callable[[int], Work], target: Path) -> float:
    """The difference that requests make to what the processes count until their end."""
    copied = []
    for requests in (0, REQUESTS):
        own = folder / str(requests)
        counts = own / "counts"
        peer = Counted(target, library, counts)
        with peer.serve(work(1), "binary", own) as running:  # asks until it is ready
            for _ in range(requests):
                if not peer.ask(running, work(SIZE), "binary"):
                    raise SystemExit(f"a wrong answer of {target.stem}")
        copied.append(sum(int(line.split()[1]) for line in counts.read_text().splitlines()))
    return round((copied[1] - copied[0]) / REQUESTS / SIZE, 2)
