"""A reader of guides, with what their commands send."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guides import Reader
from serving import Serve


@pytest.fixture
def reader(serve: Serve, tmp_path: Path) -> Reader:
    """In a folder with a text and a photo of 64 x 48: dark, with two light squares."""
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / "notes.txt").write_text("hello\n")
    pixels = np.full((48, 64, 3), 80, np.uint8)
    pixels[8:16, 16:24] = pixels[32:40, 40:48] = 200
    Image.fromarray(pixels).save(folder / "beach.png")
    return Reader(folder, serve)
