"""The command `samovar`."""

import sys

import typer

from samovar.cli.serve import serve
from samovar.cli.version import version
from samovar.errors import SamovarError

__all__ = ["app", "main"]

app = typer.Typer(
    name="samovar", help="Serve machine-learning models.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.command()(serve)
app.command()(version)


def main() -> int:
    """Run the command line; the exit code: 0 well, 1 could not start, 2 wrong usage."""
    try:
        app()
    except SamovarError as error:
        print(f"samovar: {error}", file=sys.stderr)
        return 2
    return 0
