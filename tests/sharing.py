"""Engines that several tests share: starting one for each would take longer than what they ask."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving import APPS, Served, Start


@contextmanager
def kept(
    targets: Sequence[str], folders: pytest.TempPathFactory, *, deadly: bool = False
) -> Iterator[Callable[[str], Served]]:
    """An engine per transport, started when it is first asked for.

    Unless what is asked of it is `deadly`, each must have the workers at the end that it had at the start.
    """
    started: dict[str, tuple[Served, list[int]]] = {}

    def engine(transport: str) -> Served:
        if transport not in started:
            served = start(targets, folders.mktemp("engine"), transport)
            started[transport] = served, sorted(served.workers())
        return started[transport][0]

    try:
        yield engine
        for served, workers in started.values():
            assert deadly or sorted(served.workers()) == workers, f"a worker was replaced\n{served.output()}"
            assert served.stop() == 0, served.output()
    finally:
        for served, _ in started.values():
            served.destroy()


def start(targets: Sequence[str], folder: Path, transport: str, *more: str) -> Served:
    """An engine with models of apps/ or of files, ready."""
    targets = [str(APPS / target) for target in targets]
    options = ["--spare-workers", "0", *more]
    with pytest.MonkeyPatch.context() as environment:  # before a test's own clean_environment
        for name in [name for name in os.environ if name.startswith("SAMOVAR_")]:
            environment.delenv(name)
        served = Served(Start(targets=targets, folder=folder, options=options, transport=transport))
    try:
        return served.wait_ready()
    except BaseException:
        served.destroy()
        raise
