"""What the runtimes of model files have in common: the description of a model, and what cannot be set."""

from pathlib import Path
from typing import Any

from samovar.errors import ConfigError, TargetError
from samovar.runtimes import Question
from samovar.types import Signature

__all__ = ["check_options", "describe"]


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
        "name": question.name or question.path.stem,
        "version": question.version or "1",
        "runtime": runtime,
        "source": {"path": str(question.path), "uses": {}},
        **signature.to_json(),
        "streams": False,
        "service": None,
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
