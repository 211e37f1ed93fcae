"""Runtime of entries of BentoML's model store: the file in them is run by the runtime of its format.

An entry is a folder `models/<name>/<version>` with `model.yaml`; the file `models/<name>/latest` names one of them.
https://docs.bentoml.com/en/latest/build-with-bentoml/model-loading-and-management.html
"""

from pathlib import Path
from typing import Any

from samovar.config.declared import Declared
from samovar.errors import TargetError
from samovar.runtimes import About, LoadedModel, Question, Sure
from samovar.runtimes.contents import peek
from samovar.runtimes.packages import first_level, inspect_part, load_part, part_of

__all__ = ["ABOUT", "IMPORTS", "inspect", "load", "recognise"]

IMPORTS = ("numpy",)  # the runtime of the file in it has its own
ABOUT = About(
    "BentoML model-store entries",
    extra=None,
    recognised_by="folder with model.yaml of bentoml, or with versions of it and latest",
    signature_from="the file in the entry",
    safety="that of the file in the entry",
)

_FILE, _LATEST = "model.yaml", "latest"
# What the modules of bentoml call the file or folder that they write: MODEL_FILENAME and the like in each.
_NAMES = ("saved_model.*", "savd_model.pt", "saved_model", "mlflow_model", "diffusion_model")
# Modules that write into the entry itself, by the file that says so.
_WHOLE = {"saved_model.pb": "tensorflow", "config.json": "transformers"}


def recognise(path: Path) -> Sure:
    """Folders with model.yaml of bentoml, and folders of their versions."""
    return Sure.NO if _entry(path) is None else Sure.CERTAIN


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the model of an entry, or of the latest one. Raises TargetError or ConfigError."""
    entry = _entry(question.path)
    if entry is None:
        raise TargetError(
            f"{question.path.name} is no entry of BentoML's model store", f"give a folder with {_FILE} or {_LATEST}"
        )
    facts = first_level(entry / _FILE)
    by = facts["module"] or "bentoml.models.create"
    read_from = f"{_FILE}, {by}"
    for file, runtime in _WHOLE.items():
        if (entry / file).is_file():
            return inspect_part(question, "bentoml", entry, Declared(), read_from, runtime)
    parts = [part_of(entry, places) for places in _places(entry, facts["module"])]
    found = [part for part in parts if part is not None]
    if not found:
        raise TargetError(
            f"{question.path.name} was saved by {by}, and has no file of a format that is served",
            "docs/formats.md lists those that are: export the model to one of them",
        )
    if len(found) > 1:
        names = " and ".join(str(part.relative_to(entry)) for part in found[:2])
        raise TargetError(f"{question.path.name} was saved by {by}, and has {names}", f"serve one of {entry}")
    return inspect_part(question, "bentoml", found[0], Declared(), read_from)


def load(spec: dict[str, Any]) -> LoadedModel:
    """Load the file in the entry. Raises what its runtime raises."""
    return load_part(spec)


def _places(entry: Path, module: str) -> list[list[Path]]:
    """Where the model may be, the first of each list first: a module of bentoml has names, and people have any."""
    if module:
        return [[path for name in _NAMES for path in sorted(entry.glob(name))]]
    return [[path] for path in sorted(entry.rglob("*")) if path.suffix != ".py" and path.is_file()]


def _entry(path: Path) -> Path | None:
    """The folder with model.yaml; None where the path is neither one nor has one as its latest version."""
    if not (path / _FILE).is_file():
        version = peek(path / _LATEST, 256).decode("utf-8", "replace").strip()
        if not version or Path(version).name != version:
            return None
        path = path / version
    facts = first_level(path / _FILE)
    is_created = facts.get("module") == "" and {"context", "api_version"} <= facts.keys()
    return path if is_created or facts.get("module", "").startswith("bentoml.") else None
