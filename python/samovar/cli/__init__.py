"""The command `samovar`."""

import signal

__all__ = ["main"]


def main() -> int:
    """Run the command line; the exit code: 0 well, 1 could not start, 2 wrong usage."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below shall show no traceback
    from samovar.cli.app import app
    from samovar.control.console import complete_streams, say
    from samovar.errors import SamovarError

    complete_streams()
    try:
        app()
    except SamovarError as error:
        say(f"samovar: {error}", error=True)
        return 2
    return 0
