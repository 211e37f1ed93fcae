"""`samovar serve`: every option is a field of ServerConfig."""

import inspect
import os
import signal
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from samovar.config import ServerConfig, configure
from samovar.config.settings import default_text
from samovar.repository.targets import parse_target
from samovar.server.handover import Handover, command

__all__ = ["serve"]

_METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "TEXT", str | None: "TEXT", tuple[str, ...]: "TEXT"}


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """`function`, with the fields of ServerConfig as options in the place of its `**options`."""
    own = list(inspect.signature(function).parameters.values())[:-1]
    parameters = [*own, *map(_parameter, fields(ServerConfig))]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def _parameter(option: "Field[Any]") -> inspect.Parameter:
    """An option that takes texts: `configure` reads them, with the same messages for every layer."""
    flag = "--" + option.name.replace("_", "-")
    kind: Any = str | None
    metavar: str | None = _METAVARS.get(option.type) or "|".join(get_args(option.type))
    if option.type is bool:
        kind, metavar, flag = bool | None, None, f"{flag}/--no-{flag[2:]}"
    elif option.type == tuple[str, ...]:
        kind = list[str] | None
    help_text = f"{option.metadata['help']} (default: {default_text(option)}; env: SAMOVAR_{option.name.upper()})"
    annotation = Annotated[kind, typer.Option(flag, help=help_text, metavar=metavar, show_default=False)]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@_with_options
def serve(
    targets: Annotated[list[str], typer.Argument(metavar="TARGET", help="file.py or file.py:Class")],
    config: Annotated[
        Path | None,
        typer.Option(help="file of settings (default: samovar.toml; env: SAMOVAR_CONFIG)", show_default=False),
    ] = None,
    **options: Any,
) -> None:
    """Serve every model of the targets."""
    given = {name: value or None if isinstance(value, list) else value for name, value in options.items()}
    configuration = configure(given, os.environ, config=config)
    descriptor = Handover([parse_target(target) for target in targets], configuration).write()
    os.set_inheritable(descriptor, True)
    words = command(descriptor)
    # Ctrl-C waits until the engine's process can end without a traceback: see `samovar.__main__`.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        os.execv(words[0], words)  # noqa: S606 - the engine takes this process's place and id, without the command line in memory
    finally:  # it failed
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
