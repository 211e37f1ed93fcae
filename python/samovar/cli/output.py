"""What commands print: tables and coloured words on a terminal, the same without colours or cuts elsewhere, JSON."""

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

__all__ = ["columns", "print_json", "show", "text", "waiting"]

_UNBOUNDED = 100_000


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print `value` as JSON, on one line without `indent`."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=indent, ensure_ascii=not is_unicode, allow_nan=False))


def show(*parts: "RenderableType", error: bool = False) -> None:
    """Print to standard output, or error; lines are folded to its width on a terminal alone."""
    console = _console(error=error)
    if console.is_terminal:
        console.print(*parts, sep="\n")
        return
    console.width = _UNBOUNDED
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), file=console.file)


def text(value: object, style: str = "") -> "Text":
    """Words of a model or a client: no markup, and no control codes for the terminal."""
    from rich.text import Text

    shown = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in str(value))
    return Text(shown, style, overflow="fold")


def columns(header: Sequence[str], rows: Sequence[Sequence[object]], *, last_gives: bool = False) -> "RenderableType":
    """A table without lines; an empty header shows none.

    On a narrow terminal every column is folded; with `last_gives` the last one is cut, then the first one folded.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=bool(header), header_style="bold")
    for title in header or [""] * max(map(len, rows), default=0):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    if last_gives:
        for column in table.columns[1:-1]:
            column.no_wrap = True
        for cell in table.columns[-1].cells:
            if isinstance(cell, Text):
                cell.no_wrap, cell.overflow = True, "ellipsis"
    return table


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """A sign of life on a terminal while something takes its time."""
    console = _console(error=True)
    # Killed by Ctrl-C, the command would leave the terminal without its cursor, and its children behind.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with console.status(text(words)) if console.is_terminal else nullcontext():
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def _console(*, error: bool) -> "Console":
    from rich.console import Console

    return Console(file=sys.stderr if error else sys.stdout, highlight=False, markup=False, emoji=False)
