"""`samovar inspect`: what a file or a repository has, without serving it, and how to call it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samovar.cli.options import AsJson
from samovar.errors import TargetError

if TYPE_CHECKING:
    from samovar.runtimes import Question

__all__ = ["inspect"]

_URL = "http://127.0.0.1:8000"


def inspect(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="a file, file.py:Class, or a repository's folder")],
    as_json: AsJson = False,
) -> None:
    """Describe the models of a file or folder, and how to call them."""
    from samovar.cli.inspection import ask
    from samovar.cli.output import print_json, waiting

    answers = []
    for question in _questions(target):
        with waiting(f"reading {question.path} ..."):
            answers.append((question, ask(question)))
    if as_json:
        print_json([{"path": str(question.path), **answer} for question, answer in answers])
    else:
        _print([model for _, answer in answers for model in answer["models"]])
    causes = [(question, answer["cause"]) for question, answer in answers if answer["cause"]]
    for _, cause in causes:
        _explain(cause)
    if causes:
        question, cause = causes[0]
        place = f"{question.path}: " if len(answers) > 1 else ""
        raise TargetError(f"{place}{cause['message']}", cause["next_step"])


def _questions(target: str) -> "list[Question]":
    from samovar.repository.targets import parse_target
    from samovar.runtimes import Question

    found = parse_target(target)
    return [Question(found.path, found.name)]


def _print(models: list[dict[str, Any]]) -> None:
    from samovar.cli.output import show, text
    from samovar.cli.signatures import batching, signature

    for number, model in enumerate(models):
        title = text(model["name"], "bold").append(f" version {model['version']}", "not bold")
        facts = f"{model['runtime']}, {batching(model['options'], model['batch_axis'])}"
        show(*([""] if number else []), title.append(f"  {facts}", "not bold"), signature(model), "")
        for line in _calls(model):
            print(line)  # never folded: to be copied


def _calls(model: dict[str, Any]) -> list[str]:
    """How to serve and call a model."""
    from samovar.control.example import curl_line, infer_line, python_lines

    place = _place(model["source"])
    python = python_lines(model, place)
    return [
        f"serve   samovar serve {place}",
        f"call    {infer_line(model)}",
        f"        {curl_line(model, _URL, None)}",
        *(f"{'python' if number == 0 else '':8}{line}" for number, line in enumerate(python)),
    ]


def _place(source: Mapping[str, Any]) -> str:
    """The file, from here where it is below, and the class in it."""
    from pathlib import Path

    path = Path(source["path"])
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{source['class']}" if "class" in source else str(shown)


def _explain(cause: Mapping[str, Any]) -> None:
    from samovar.cli.describe import cause_lines
    from samovar.cli.output import show, text

    if cause["traceback"]:
        show(*map(text, cause_lines({"message": "", "traceback": cause["traceback"]})[1:]), error=True)
