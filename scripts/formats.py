"""docs/formats.md from what each runtime says of itself, and the table of `make test-formats` from its results."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from samovar.runtimes import RUNTIMES, runtime_named

DOCUMENT = Path(__file__).parents[1] / "docs" / "formats.md"
BEGIN, END = "<!-- table: make docs -->", "<!-- end of the table -->"


def document(text: str) -> str:
    """The document with the table of today between its marks."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{_table()}\n{END}{tail}"


def _table() -> str:
    lines = [
        "| runtime | format | extra | recognised by | signature from | safety | tested |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in RUNTIMES:
        about = runtime_named(name).ABOUT
        extra = "" if about.extra is None else f"`{about.extra}`"
        cells = (f"`{name}`", about.title, extra, about.recognised_by, about.signature_from, about.safety, about.tested)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def results(folder: Path) -> None:
    """Print format, environment and result."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}
    table = Table("format", "environment", "passed", "skipped", "failed")
    for environment, formats in found.items():
        for name, counts in sorted(formats.items()):
            table.add_row(name, environment, *(str(counts.get(kind, 0)) for kind in ("passed", "skipped", "failed")))
    Console().print(table)


def main() -> int:
    """`check`, `write`, or `results FOLDER`."""
    if sys.argv[1] == "results":
        results(Path(sys.argv[2]))
        return 0
    text = DOCUMENT.read_text("utf-8")
    wanted = document(text)
    if sys.argv[1] == "write":
        DOCUMENT.write_text(wanted, "utf-8")
    elif wanted != text:
        print("docs/formats.md is not what the runtimes say; run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
