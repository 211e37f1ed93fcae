"""Repositories of tiny models that share workers."""

from pathlib import Path

from samovar.client import Client
from serving import Served

SHARED = ["--default-worker", "shared", "--control", "explicit"]

_ADDING = """
import numpy as np
from jaxtyping import Float32

import beside
import samovar


@samovar.model
class Adding:
    def predict(self, x: Float32[np.ndarray, "batch 3"]) -> Float32[np.ndarray, "batch 3"]:
        return x + beside.ADDED
"""


def add_model(folder: Path, name: str, text: str, version: int = 1, **neighbours: str) -> Path:
    """Write a model of a repository as one Python file, and the modules that it has beside it."""
    place = folder / name / str(version)
    place.mkdir(parents=True, exist_ok=True)
    for neighbour, content in neighbours.items():
        (place / f"{neighbour}.py").write_text(content)
    file = place / "model.py"
    file.write_text(text)
    return file


def add_adding(folder: Path, name: str, added: int, version: int = 1) -> Path:
    """A model that adds a number, which a module beside it has."""
    return add_model(folder, name, _ADDING, version, beside=f"ADDED = {added}\n")


def processes_of(served: Served) -> dict[str, tuple[str | None, int]]:
    """Worker and process of each model's first live instance, as the admin socket tells them."""
    with Client(f"unix:{served.ready['admin']}") as client:
        models = client.state()["models"]
    return {
        model["name"]: (model["instances"][0]["worker"], model["instances"][0]["pid"])
        for model in models
        if model["instances"]
    }
