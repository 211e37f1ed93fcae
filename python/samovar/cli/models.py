"""`samovar models`: what an engine serves, and loading and unloading of it."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samovar.cli.engines import Engine, connect
from samovar.cli.help import Command, show_help
from samovar.cli.options import AsJson, EngineName, Url
from samovar.cli.output import columns, print_json, show, text, waiting
from samovar.errors import RequestError

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["models"]

Name = Annotated[str, typer.Argument(metavar="NAME", help="name of the model")]

models = typer.Typer(help="Models of an engine.", invoke_without_command=True, rich_markup_mode=None)
models.callback()(show_help)
_STYLES = {
    "ready": "green",
    "failed": "bold red",
    "degraded": "yellow",
    "loading": "cyan",
    "warming": "cyan",
    "configured": "cyan",
    "unloaded": "dim",
}
_CAUSE_CHARACTERS = 100


@models.command("list", cls=Command)
def list_models(url: Url = None, engine: EngineName = None, as_json: AsJson = False) -> None:
    """List every version of every model."""
    with connect(url, engine) as connected:
        versions = _versions(connected)
    if as_json:
        print_json(versions)
    elif not versions:
        show(text("no model is served"))
    else:
        rows = [_row(version) for version in versions]
        known = ("name", "version", "state", *(("runtime", "batch", "instances") if url is None else ()), "cause")
        show(columns(known, rows, last_gives=True))


@models.command("show", cls=Command)
def show_model(name: Name, url: Url = None, engine: EngineName = None, as_json: AsJson = False) -> None:
    """Show all about a model, or why it failed."""
    from samovar.cli.describe import describe

    with connect(url, engine) as connected:
        versions = [version for version in _versions(connected) if version["name"] == name]
        if not versions:
            connected.client.metadata(name)  # the engine knows best why there is none
        if not connected.is_admin:
            versions = [
                {**version, **_signature(connected, name, version)} if version["state"] == "ready" else version
                for version in versions
            ]
    if as_json:
        print_json(versions)
        return
    for number, version in enumerate(versions):
        title = text(f"{name} version {version['version']} is ").append(_state(version))
        show(*([""] if number else []), title, *describe(version, time.time()))


@models.command(cls=Command)
def load(name: Name, url: Url = None, engine: EngineName = None) -> None:
    """Load or reload a model.

    The old version serves until the new one is ready, and goes on where that fails.
    """
    with connect(url, engine) as connected:
        started = time.monotonic()
        try:
            with waiting(f"loading {name} ..."):
                connected.client.load(name)
        except RequestError:
            _explain(connected, name)
            raise
        versions = [v["version"] for v in _versions(connected) if v["name"] == name and v["state"] == "ready"]
    word = "version" if len(versions) == 1 else "versions"
    print(f"{name} is ready after {time.monotonic() - started:.1f} s: {word} {', '.join(versions)}")


@models.command(cls=Command)
def unload(name: Name, url: Url = None, engine: EngineName = None) -> None:
    """Unload a model, its requests answered."""
    with connect(url, engine) as connected:
        started = time.monotonic()
        with waiting(f"unloading {name} ..."):
            connected.client.unload(name)
    print(f"{name} is unloaded after {time.monotonic() - started:.1f} s")


@models.command(cls=Command)
def ready(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="name of the model [the engine itself]")] = None,
    version: Annotated[str | None, typer.Option(metavar="VERSION", help="a version of the model")] = None,
    url: Url = None,
    engine: EngineName = None,
) -> None:
    """Exit with 0 if a request would succeed now, else with 1."""
    with connect(url, engine) as connected:
        connected.client.check_ready(name, version)
    print(f"{name or 'the engine'} is ready")


def _versions(engine: Engine) -> list[dict[str, Any]]:
    """What the engine says of each version: everything on its admin socket, else name, version, state and cause."""
    if engine.is_admin:
        return list(engine.client.state()["models"])
    return [
        {
            "name": line["name"],
            "version": line["version"],
            "state": line["state"].lower(),
            "cause": {"message": line["reason"]} if line["reason"] else None,
        }
        for line in engine.client.index()
    ]


def _row(version: dict[str, Any]) -> list[object]:
    """A version as a line of the list; only the admin socket tells all of it."""
    row: list[object] = [version["name"], version["version"], _state(version)]
    if "options" in version:
        from samovar.cli.signatures import is_described
        from samovar.config import OWN_WORKER

        options = version["options"]
        alive = f"{len(version['instances'])} of {options['instances']}"
        alive += "" if options["worker"] == OWN_WORKER else f" in {options['worker']}"
        facts = [version["runtime"], options["max_batch_size"] if version["batch_axis"] else "-", alive]
        row += facts if is_described(version) else [""] * len(facts)
    return [*row, _short(version["cause"])]


def _signature(engine: Engine, name: str, version: dict[str, Any]) -> dict[str, Any]:
    metadata = engine.client.metadata(name, version["version"])
    return {key: metadata[key] for key in ("platform", "inputs", "outputs")}


def _explain(engine: Engine, name: str) -> None:
    """What a failed load left behind: the end of its traceback, and what its worker wrote."""
    from samovar.cli.describe import evidence

    if not engine.is_admin:
        return
    failed = [v for v in _versions(engine) if v["name"] == name and v["state"] == "failed"]
    lines: Sequence[str] = evidence(failed[-1]["cause"]) if failed and failed[-1]["cause"] else ()
    if lines:
        show(*map(text, lines), error=True)


def _state(version: dict[str, Any]) -> "Text":
    """The state; of what waits for its load how many are before it."""
    before = version.get("loads_before")
    waits = "" if before is None else f" ({before} loads before it)"
    return text(version["state"] + waits, _STYLES.get(version["state"], ""))


def _short(cause: dict[str, Any] | None) -> str:
    """The first line of a cause."""
    line = str((cause or {}).get("message", "")).partition("\n")[0]
    return line if len(line) <= _CAUSE_CHARACTERS else line[: _CAUSE_CHARACTERS - 1] + "…"
