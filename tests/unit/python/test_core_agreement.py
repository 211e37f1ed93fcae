"""Python's dataclasses and Rust's structures have the same fields: Rust denies unknown ones and has no defaults."""

import json
from typing import Any

import pytest

from samovar import _core
from samovar.config import Configuration, ServerConfig

SETTINGS = ServerConfig().to_engine()
OPTIONS = Configuration(ServerConfig()).model_options("m", {}, batch_axis=True)


def version(options: dict[str, Any]) -> str:
    spec = {"name": "x", "datatype": "BF16", "dims": [-1, 3]}
    return json.dumps(
        {
            "name": "m",
            "version": "1",
            "runtime": "python",
            "source": {"path": "/a.py", "class": "M", "is_async": False},
            "inputs": [spec],
            "outputs": [spec],
            "batch_axis": True,
            "options": options,
            "imports": ["numpy"],
            "probe": None,
            "streams": False,
            "uses": [],
            "service": None,
        }
    )


def test_rust_takes_what_python_sends() -> None:
    _core.check_settings(json.dumps(SETTINGS))
    _core.check_version(version(OPTIONS))


@pytest.mark.parametrize("name", SETTINGS)
def test_rust_needs_every_setting(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        _core.check_settings(json.dumps({key: value for key, value in SETTINGS.items() if key != name}))


@pytest.mark.parametrize("name", OPTIONS)
def test_rust_needs_every_option_of_a_model(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        _core.check_version(version({key: value for key, value in OPTIONS.items() if key != name}))
