"""How help looks: plain text whose names are never cut, options in groups."""

import re
from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["EXIT_CODES", "Command", "show_help"]

EXIT_CODES = {
    0: "it went well",
    1: "the engine or the model said no, is not ready, or could not start",
    2: "wrong usage, a wrong input, file or setting",
    3: "no engine can be reached",
    130: "Ctrl-C",
}


class Command(TyperCommand):
    """A command whose help lists options under their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section per group, in the order of the first option of each."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                panel = getattr(parameter, "rich_help_panel", None) or ("Arguments" if is_argument else "Options")
                name = re.sub(" <.*>$", "", record[0]) if is_argument else record[0]  # without its Python type
                sections.setdefault(panel, []).append((name, record[1]))
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def show_help(context: typer.Context) -> None:
    """What a group of commands does without one."""
    if context.invoked_subcommand is None:
        print(context.get_help())
