"""`samovar inspect`: what a file or a repository has, without serving it, and how to call it."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samovar.cli.options import AsJson
from samovar.errors import SamovarError, TargetError, describe_failure

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["inspect"]

_URL = "http://127.0.0.1:8000"
_SHOWN_LABELS = 10


def inspect(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="a file, file.py:Class, or a repository's folder")],
    trust: Annotated[bool, typer.Option("--trust", help="let a file run code when it is loaded")] = False,
    sample: Annotated[
        Path | None, typer.Option("--sample", metavar="FILE.json", help="write a request with made-up values")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe the models and services of a file or folder, and how to call them."""
    from samovar.cli.output import print_json

    answers = list(_answers(target, trust=trust))
    if sample is not None:
        _write_sample(sample, [model for _, answer in answers for model in answer["models"]], target)
    if as_json:
        print_json([{"path": str(path), **answer} for path, answer in answers])
    else:
        _print([model for _, answer in answers for model in answer["models"]], target, sample)
    faults = [(path, answer["cause"]) for path, answer in answers if answer["cause"]]
    for _, cause in faults:
        _explain(cause)
    if faults:
        raise TargetError("\n".join(_fault(path, cause, alone=len(answers) == 1) for path, cause in faults))


def _answers(target: str, *, trust: bool) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each file of the target, and what it has."""
    import os

    from samovar.cli.inspection import ask
    from samovar.cli.output import waiting
    from samovar.config import configure
    from samovar.repository.folders import empty_repository
    from samovar.repository.settings import question_of
    from samovar.repository.sources import all_sources
    from samovar.repository.targets import parse_target

    configuration = configure({"trust": ["*"]} if trust else {}, os.environ)
    parsed = parse_target(target)
    sources = all_sources([parsed])
    if not sources:
        raise empty_repository(parsed.path)
    for source in sources:
        try:
            if source.fault is not None:
                raise source.fault
            with waiting(f"reading {source.path} ..."):
                yield source.path, ask(question_of(source, configuration))
        except SamovarError as error:
            yield source.path, {"models": [], "cause": describe_failure(error)}


def _write_sample(file: Path, models: list[dict[str, Any]], target: str) -> None:
    """Write a request of the one model of the target. Raises TargetError."""
    import json

    from samovar.control.example import sample

    if file.suffix != ".json":
        raise TargetError(f'--sample "{file}" is written as JSON', f"name it {file.with_suffix('.json')}")
    if not models:
        return  # what is wrong is told anyway
    if len(models) > 1 or models[0]["service"] is not None:
        what = f"{len(models)} models" if len(models) > 1 else f'the service "{models[0]["name"]}"'
        cure = "name one of them" if len(models) > 1 else f"its page /{models[0]['name']}/docs has samples"
        raise TargetError(f"--sample writes a request of one model, and {target} has {what}", cure)
    request, _ = sample(models[0], _URL, str(file))
    try:
        file.write_text(json.dumps(request) + "\n")
    except OSError as error:
        raise TargetError(f'--sample "{file}" cannot be written: {error.strerror}') from None


def _print(models: list[dict[str, Any]], target: str, sample: Path | None) -> None:
    from samovar.cli.output import show, text
    from samovar.cli.signatures import is_service, signature

    names = [model["name"] for model in models]
    for number, model in enumerate(models):
        title = text(model["name"], "bold").append(f" version {model['version']}", "not bold")
        title.append(f"  {', '.join(_facts(model))}", "not bold")
        table = _addresses(model) if is_service(model) else signature(model)
        show(*([""] if number else []), title, table, *map(text, _origin(model["source"])), "")
        version = model["version"] if names.count(model["name"]) > 1 else None
        for line in _calls(model, target, version, sample):
            print(line)  # never folded: to be copied


def _facts(model: dict[str, Any]) -> list[str]:
    from samovar.cli.signatures import batching, is_service, uses_text

    kind = [] if is_service(model) else [batching(model["options"], model["batch_axis"])]
    kind += ["streams"] if model["streams"] else []
    used = uses_text(model["source"])
    trusted = ["trusted"] if model["source"].get("trusted") else []
    return [model["runtime"], *kind, *([f"uses {used}"] if used else []), *trusted]


def _origin(source: Mapping[str, Any]) -> list[str]:
    """Where the signature was read from, and what stands in outputs by their places."""
    from samovar.cli.signatures import preprocess_text

    lines = [f"read from {source['read_from']}"] if source.get("read_from") else []
    lines += [f"images    {preprocess_text(source['preprocess'])}"] if source.get("preprocess") else []
    lines += [f"{source['note']}"] if source.get("note") else []
    if source.get("columns"):
        lines.append(f"columns   {', '.join(source['columns'])}")
    for output, labels in source.get("labels", {}).items():
        shown = ", ".join(map(str, labels[:_SHOWN_LABELS]))
        more = f", ... ({len(labels)})" if len(labels) > _SHOWN_LABELS else ""
        lines.append(f"labels    {output}: {shown}{more}")
    return lines


def _addresses(model: dict[str, Any]) -> "RenderableType":
    """A table of the paths of a service."""
    from samovar.cli.output import columns

    service = model["service"]
    rows = [(" ".join(route["methods"]), route["path"]) for route in service["routes"]]
    rows += [("all", f"{mount}/...") for mount in service["mounts"][1:]]
    return columns(("", "path"), [*rows, ("GET", f"/{model['name']}/docs")])


def _calls(model: dict[str, Any], target: str, version: str | None, file: Path | None) -> list[str]:
    """How to serve and call a model, or that version of it; `file` is of its sample."""
    from samovar.control.example import curl_line, infer_line, python_lines, sample, service_line

    serve = f"serve   samovar serve {shlex.quote(target)}"
    if model["service"] is not None:
        return [serve, f"call    {service_line(model, _URL, None)}"]
    curl = curl_line(model, _URL, None, version) if file is None else sample(model, _URL, str(file), version)[1]
    python = python_lines(model, _place(model["source"]))
    return [
        serve,
        f"call    {infer_line(model, version)}",
        f"        {curl}",
        *(f"{'python' if number == 0 else '':8}{line}" for number, line in enumerate(python)),
    ]


def _place(source: Mapping[str, Any]) -> str:
    """The file, from here where it is below, and the class in it."""
    path = Path(source["path"])
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{source['class']}" if "class" in source else str(shown)


def _explain(cause: Mapping[str, Any]) -> None:
    from samovar.cli.describe import evidence
    from samovar.cli.output import show, text

    lines = evidence(cause)
    if lines:
        show(*map(text, lines), error=True)


def _fault(path: Path, cause: Mapping[str, Any], *, alone: bool) -> str:
    words = [cause["message"], cause["next_step"]]
    return ("" if alone else f"{path}: ") + "; ".join(word for word in words if word)
