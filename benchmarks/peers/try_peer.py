"""Start one peer and ask it once in each form: `python -m benchmarks.peers.try_peer triton echo json`."""

import importlib
import sys
import tempfile
from pathlib import Path

from benchmarks import work as works
from benchmarks.peers.base import Peer

KINDS = {
    kind.name: kind
    for kind in (works.ECHO, works.IMAGE, works.STEADY, works.CHECKED, works.PLATES, works.SHOP, works.blob(4096))
}


def main() -> None:
    name, chosen, forms = sys.argv[1], sys.argv[2:3], sys.argv[3:]
    peer: Peer = importlib.import_module(f"benchmarks.peers.{name}").PEER
    peer.install()
    print(peer.versions())
    for kind in chosen or peer.works:
        for form in forms or sorted(peer.works[kind]):
            with tempfile.TemporaryDirectory() as folder, peer.serve(KINDS[kind], form, Path(folder)) as running:
                print(kind, form, f"start {running.start_s} s, idle {running.idle_rss_mib} MiB", flush=True)


if __name__ == "__main__":
    main()
