"""Programs of users, written to files of a test's own folder."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PREAMBLE = """
import dataclasses
from typing import NamedTuple

import numpy as np
import samovar
from jaxtyping import BFloat16, Float, Float32, Int32, Num, UInt8
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Write a Python file: the usual imports, then the text; what its import leaves behind is removed."""
    modules, path = set(sys.modules), list(sys.path)

    def write(text: str, name: str = "served_program.py", preamble: str = PREAMBLE) -> Path:
        file = tmp_path / name
        file.write_text(preamble + textwrap.dedent(text))
        return file

    yield write
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
