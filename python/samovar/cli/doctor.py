"""`samovar doctor`: what is installed, what a start here would use and expose, which engines run, and what is wrong."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samovar.cli.options import AsJson

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["doctor"]


def doctor(
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="file of settings [samovar.toml]")] = None,
    as_json: AsJson = False,
) -> None:
    """Check the installation, and what a start here would expose."""
    from samovar.cli.checkup import examine
    from samovar.cli.output import print_json

    found = examine(config)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found["problems"]:
        raise typer.Exit(1)


def _print(found: dict[str, Any]) -> None:
    from samovar.cli.output import columns, show, text

    sections: dict[str, dict[str, object]] = {
        "versions": {name: version or text("not installed", "dim") for name, version in found["versions"].items()},
        "runtimes": {name: _runtime(runtime) for name, runtime in found["runtimes"].items()},
        "machine": {name.replace("_", " "): fact for name, fact in found["machine"].items()},
        "start": {name.replace("_", " "): fact for name, fact in found["start"].items()},
    }
    for title, facts in sections.items():
        if facts:
            show(text(title, "bold"), columns((), [("", name, fact) for name, fact in facts.items()]))
    show(text("engines", "bold"))
    engines = [("", f"pid {engine['pid']}", engine["url"] or "", _models(engine)) for engine in found["engines"]]
    show(columns((), engines) if engines else "  none of yours runs here", "")
    for problem in found["problems"]:
        show(text(f"wrong: {problem}", "bold red"))
    if not found["problems"]:
        show(text("nothing is wrong", "green"))


def _runtime(runtime: dict[str, Any]) -> "Text":
    from samovar.cli.output import text

    return text("found", "green") if runtime["found"] else text(f"missing; {runtime['install']}", "yellow")


def _models(engine: dict[str, Any]) -> str:
    """How many are ready; the others by name."""
    models = engine["models"]
    if models is None:
        return "does not answer"
    parts = [f"{len(models['ready'])} ready"] if "ready" in models else []
    parts += [f"{state}: {', '.join(names)}" for state, names in models.items() if state != "ready"]
    return "; ".join(parts) or "no models"
