"""Each test file names its FORMAT; how it went with that is written for the table of `make test-formats`."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "build" / "formats"
FAKES = Path(__file__).parent / "fakes"
outcomes: dict[str, Counter[str]] = defaultdict(Counter)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> object:
    report = yield
    named = getattr(getattr(item, "module", None), "FORMAT", None)
    if named and (report.when == "call" or report.outcome != "passed"):
        outcomes[named][report.outcome] += 1
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    environment = Path(session.config.args[0]).name
    (RESULTS / f"{environment}.json").write_text(json.dumps(outcomes))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], bool]:
    """Put the fake of a vendor's module in its place, here and in workers, unless the module itself is installed.

    True if it is the fake: `fake("llama_cpp", "llama")` is that of `fakes/llama`.
    """

    def put(module: str, folder: str) -> bool:
        try:
            spec = find_spec(module)
        except ModuleNotFoundError:  # not even what it would be in
            spec = None
        if spec is not None and not str(spec.origin).startswith(str(FAKES)):
            return False
        monkeypatch.syspath_prepend(FAKES / folder)
        places = [str(FAKES / folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
        return True

    return put
