"""Each test file names its FORMAT; how it went with that is written for the table of `make test-formats`."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "build" / "formats"
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
