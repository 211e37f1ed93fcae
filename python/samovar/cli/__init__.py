"""The command `samovar`."""

import os
import re
import signal
import sys
from typing import Any

__all__ = ["main"]


def main() -> int:
    """Run the command line; the exit code, as `samovar.cli.help.EXIT_CODES` lists them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below shall show no traceback
    from typer import BadParameter

    from samovar.cli.app import app
    from samovar.control.console import complete_streams, say
    from samovar.errors import SamovarError

    # The base of all that typer raises for a wrong use; it has had several homes.
    usage_error: Any = BadParameter.__base__
    complete_streams()
    try:
        code = app(prog_name="samovar", standalone_mode=False) or 0
        sys.stdout.flush()
    except SamovarError as error:
        say(f"samovar: {error}", error=True)
        return _exit_code(error)
    except usage_error as error:
        say(f"samovar: {_usage_text(error)}", error=True)
        return 2
    except OSError as error:
        _drop_output()
        if not isinstance(error, BrokenPipeError):  # a reader like head may leave when it has seen enough
            say(f"samovar: {error}", error=True)
        return 1
    return int(code)


def _drop_output() -> None:
    """What standard output still holds would fail again at the exit, with a traceback."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for good


def _exit_code(error: Exception) -> int:
    from samovar.errors import LoadError, RequestError, ServerError, UnreachableError

    if isinstance(error, UnreachableError):
        return 3
    return 1 if isinstance(error, LoadError | RequestError | ServerError) else 2


def _usage_text(error: Any) -> str:
    """What is wrong with the words of the command, and where its help is."""
    from samovar.config.options import MODEL_OPTIONS

    fault = error.format_message().rstrip(".").replace(". Did you", "; did you")
    fault = re.sub(r" \(Possible options: (.*)\)$", r"; did you mean \1?", fault[:1].lower() + fault[1:])
    command = error.ctx.command_path if error.ctx is not None else "samovar"
    option = str(getattr(error, "option_name", "")).lstrip("-").replace("-", "_")
    if option in MODEL_OPTIONS and command.endswith(" serve"):
        return f"--{option.replace('_', '-')} is of models: write {option} below [models.<name>] in samovar.toml"
    return f"{fault}{'' if fault.endswith('?') else ';'} `{command} --help` tells more"
