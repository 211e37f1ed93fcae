"""The commands of `samovar`."""

import typer

from samovar.cli.serve import serve
from samovar.cli.version import version

__all__ = ["app"]

app = typer.Typer(
    name="samovar", help="Serve machine-learning models.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.command()(serve)
app.command()(version)
