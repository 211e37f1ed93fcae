"""Options that several commands have."""

from typing import Annotated

import typer

__all__ = ["AsJson", "EngineName", "Url"]

Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="the engine's address, http://host:port")]
EngineName = Annotated[
    str | None,
    typer.Option("--engine", metavar="PID|SOCKET", help="the engine on this machine [the only one that runs]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]
