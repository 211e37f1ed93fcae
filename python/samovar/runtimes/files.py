"""What the runtimes of model files have in common: the name of a model, its description, its settings."""

from pathlib import Path
from typing import Any

from samovar.errors import ConfigError, TargetError
from samovar.runtimes import Question
from samovar.types import Signature, check_name

__all__ = ["check_options", "describe", "name_of"]

_UNTOLD_STEM = "model"


def name_of(path: Path) -> str:
    """The name of the model in a file: its stem, or that of its folder for `model.*`, past one that names a version.

    Raises TargetError where that cannot be a name.
    """
    name = path.stem
    if name == _UNTOLD_STEM:
        folder = path.absolute().parent
        name = folder.parent.name if folder.name.isdecimal() else folder.name
    fault = check_name("model", name)
    if fault:
        raise TargetError(f"{fault} ({path})", "rename the file")
    return name


def describe(
    question: Question, runtime: str, signature: Signature, options: dict[str, Any], imports: tuple[str, ...]
) -> dict[str, Any]:
    """The description of the one model of a file. Raises TargetError or ConfigError for what a file cannot have."""
    if question.class_name is not None:
        raise TargetError(
            f"{question.path.name}:{question.class_name} names a class, but {question.path.name} is one model",
            "name the file alone",
        )
    check_options(question.path, options)
    return {
        "name": question.name or name_of(question.path),
        "version": question.version or "1",
        "runtime": runtime,
        "source": {"path": str(question.path)},
        **signature.to_json(),
        "options": options,
        "imports": list(imports),
    }


def check_options(path: Path, options: dict[str, Any]) -> None:
    """Refuse several calls at a time: a file runs one. Raises ConfigError."""
    if options.get("concurrency", 1) > 1:
        raise ConfigError(
            f"concurrency = {options['concurrency']} is set for {path.name}, which runs one call at a time",
            "use instances to run several copies",
        )
