"""No two services answer the same path."""

from typing import Any

import pytest

from samovar.errors import TargetError
from unit.python.fake_engine import FakeEngine, described, run


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def service(name: str, *routes: tuple[str, str], mounts: tuple[str, ...] = (), version: str = "1") -> dict[str, Any]:
    """A service with these methods and paths."""
    shown = {
        "routes": [{"methods": [method], "path": path, "idempotent": False} for method, path in routes],
        "mounts": [f"/{name}", *mounts],
        "methods": [],
        "description": "",
    }
    return {**described(name, version), "runtime": "service", "service": shown}


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (
            service("a", ("POST", "/find")),
            service("b", ("GET", "/find"), ("POST", "/find")),
            'service "a" and service "b" both answer POST /find; give one of them another path with',
        ),
        (
            service("a", ("GET", "/rooms/{number}")),
            service("b", ("GET", "/rooms/{name}")),
            'service "a" and service "b" both answer GET /rooms/{}; give one',
        ),
        (
            service("a", mounts=("/ui",)),
            service("b", mounts=("/ui",)),
            'service "a" and service "b" both have all below /ui; mount one at another path',
        ),
        (service("a", mounts=("/b",)), service("b"), "both have all below /b; mount one"),
    ],
)
def test_a_path_of_two_services_stops_the_start_and_names_both(
    engine: FakeEngine, one: dict[str, Any], two: dict[str, Any], message: str
) -> None:
    engine.files = {"a.py": [one], "b.py": [two], "both.py": [one, two]}
    for targets in (["a.py", "b.py"], ["both.py"]):
        with pytest.raises(TargetError) as refused:
            run(engine, *targets)
        assert message in str(refused.value)
    assert engine.deployed == []


def test_paths_that_differ_and_versions_of_one_service_are_served(engine: FakeEngine) -> None:
    engine.files = {
        "a.py": [
            service("a", ("POST", "/find"), ("GET", "/rooms/first")),
            service("a", ("POST", "/find"), version="2"),
        ],
        "b.py": [service("b", ("GET", "/find"), ("GET", "/rooms/{number}"), mounts=("/find/more",))],
    }
    assert run(engine, "a.py", "b.py") == 0
    assert len(engine.deployed) == 3
