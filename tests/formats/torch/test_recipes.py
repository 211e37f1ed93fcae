"""The recipes of docs/formats.md."""

from pathlib import Path

import pytest

from formats.recipes import PLAYED, check_recipe
from serving import Serve


@pytest.mark.parametrize("title", PLAYED["torch"])
def test_a_recipe_does_what_it_says(title: str, serve: Serve, tmp_path: Path) -> None:
    check_recipe(title, serve, tmp_path)
