"""Check that every file the documents link to, or name in backticks, exists."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("benchmarks", "constraints", "crates", "docs", "examples", "proto", "python", "scripts", "tests")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
NAMED = re.compile(r"`((?:%s)/[\w./-]+)`" % "|".join(FOLDERS))  # noqa: UP031  # braces would have to be doubled
BUILT = ("benchmarks/results/local",)  # named, but not in a fresh checkout


def documents() -> list[Path]:
    """Every Markdown file of the project."""
    found = [*ROOT.glob("*.md")]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


def missing(document: Path) -> list[str]:
    """What a document names and nobody has."""
    faults = []
    for number, line in enumerate(document.read_text().splitlines(), 1):
        targets = [(name, document.parent) for name in LINK.findall(line)]
        targets += [(name, ROOT) for name in NAMED.findall(line)]
        faults += [
            f"{document.relative_to(ROOT)}:{number}: {name} does not exist"
            for name, base in targets
            if not (base / name).exists() and not name.startswith(BUILT)
        ]
    return faults


def main() -> None:
    """Print the faults; fail if there are any."""
    pages = documents()
    faults = [fault for page in pages for fault in missing(page)]
    print("\n".join(faults) or f"{len(pages)} documents name only files that exist")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
