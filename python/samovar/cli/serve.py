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
from samovar.server.handover import Handover, command, environment

__all__ = ["serve"]

_GROUPS = {
    "Addresses": ("host", "http_port", "grpc_port", "admin_socket", "allowed_hosts", "allowed_origins"),
    "Models": ("trust", "control", "strict_readiness", "default_worker", "max_loads", "spare_workers", "transport"),
    "Limits": (
        *("max_body_bytes", "max_bodies_bytes", "max_requests", "max_connections"),
        *("header_timeout_s", "keep_alive_s", "engine_threads"),
    ),
    "Start and stop": ("ready_file", "drain_delay_s", "drain_timeout_s"),
    "Answers and logs": ("expose_errors", "compress_responses", "log_format", "access_log"),
}
_METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", str: "TEXT", str | None: "TEXT", tuple[str, ...]: "TEXT"}


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """`function`, with the fields of ServerConfig as options in the place of its `**options`."""
    own = list(inspect.signature(function).parameters.values())[:-1]
    options = {option.name: option for option in fields(ServerConfig)}
    parameters = [*own, *(_parameter(options[name], group) for group, names in _GROUPS.items() for name in names)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what typer reads
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def _parameter(option: "Field[Any]", group: str) -> inspect.Parameter:
    """An option that takes texts: `configure` reads them, with the same messages for every layer."""
    flag = "--" + option.name.replace("_", "-")
    kind: Any = str | None
    metavar: str | None = _METAVARS.get(option.type) or "|".join(get_args(option.type))
    if option.type is bool:
        kind, metavar, flag = bool | None, None, f"{flag}/--no-{flag[2:]}"
    elif option.type == tuple[str, ...]:
        kind = list[str] | None
    declared = typer.Option(
        flag,
        help=f"{option.metadata['help']} [{default_text(option)}]",
        metavar=metavar,
        show_default=False,
        rich_help_panel=group,
    )
    annotation = Annotated[kind, declared]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@_with_options
def serve(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="TARGET", help="a model file, file.py or file.py:Class, a repository or model folder"),
    ],
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="file of settings [samovar.toml]", show_default=False),
    ] = None,
    **options: Any,
) -> None:
    """Serve every model of the targets.

    Each option is also a key of samovar.toml, and a variable of the environment: for --http-port, http_port = 9000
    and SAMOVAR_HTTP_PORT=9000. Options win over the environment, that over the file. Defaults stand in brackets.
    """
    given = {name: value or None if isinstance(value, list) else value for name, value in options.items()}
    configuration = configure(given, os.environ, config=config)
    descriptor = Handover([parse_target(target) for target in targets], configuration).write()
    os.set_inheritable(descriptor, True)
    words = command(descriptor)
    # Ctrl-C waits until the engine's process can end without a traceback: see `samovar.__main__`.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        os.execve(words[0], words, environment())  # noqa: S606 - the engine takes this process's place and id, without the command line in memory
    finally:  # it failed
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
