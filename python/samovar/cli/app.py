"""The commands of `samovar`."""

from typing import Annotated

import typer

from samovar.cli.doctor import doctor
from samovar.cli.help import EXIT_CODES, Command, show_help
from samovar.cli.infer import infer
from samovar.cli.inspect import inspect
from samovar.cli.models import models
from samovar.cli.serve import serve
from samovar.cli.version import print_version, version

__all__ = ["app"]

app = typer.Typer(
    name="samovar",
    help="Serve machine-learning models.",
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def samovar(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    """Serve machine-learning models."""
    if version:
        print_version()
    else:
        show_help(context)


app.command(cls=Command)(serve)
app.add_typer(models, name="models")
for command in (infer, inspect, doctor, version):
    app.command(cls=Command)(command)
