"""A guide, read as its reader would: files grow, commands are typed, answers compared with those of the page."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving import Serve, Served
from watching import eventually

ROOT = Path(__file__).parent.parent
GUIDES = ROOT / "docs" / "guides"
ADDRESS = "127.0.0.1:8000"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the commands of the pages are those of curl")
_BLOCK = re.compile(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)

_SUGGESTION = re.compile(r"^try:\n  .+\n", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is (the next part of), its lines."""

    language: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(*found.groups(default="")) for found in _BLOCK.finditer(page.read_text())]


def block(page: Path, language: str, index: int = 0) -> str:
    """The text of a block of this language."""
    return [found.text for found in blocks(page) if found.language == language][index]


def typed(commands: str, folder: Path, *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Type commands into a shell whose python is this one; fails where any of them does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-e", "-c", f'curl() {{ command curl -sS "$@"; }}\n{commands}'],
        check=False,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert ran.returncode == 0, f"$ {commands}\nended with {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran


class Reader:
    """Does what a page says in `folder`, where it writes its files; those of the checkout it serves from there.

    An engine whose file has grown is started again before the next command.
    """

    def __init__(self, folder: Path, serve: Serve) -> None:
        self._folder = folder
        self._serve = serve
        self._target = ""
        self._served: Served | None = None

    def read(self, page: Path) -> None:
        """Every block in its order; fails at the first answer that is not the page's."""
        for found in blocks(page):
            if found.file:
                self._write(found)
            elif found.text.startswith("$ "):
                for command, wanted in _dialogue(found.text):
                    self._type(command, wanted)

    def _write(self, found: Block) -> None:
        path = self._folder / found.file
        before = path.read_text() + "\n" if path.exists() else ""
        path.write_text(before + found.text)
        if path.name.startswith("test_"):
            self._run(f"{sys.executable} -m pytest -q -p no:cacheprovider {path.name}")
        elif path.name == self._target:
            self._end()

    def _end(self) -> None:
        if self._served is not None:
            self._served.stop()
            self._served = None

    def _introduction(self) -> str:
        """What the start prints; the ready file is there a moment before it."""
        told = self._engine().stdout_path
        eventually(lambda: _SUGGESTION.search(told.read_text()), "the start has told how to call it")
        return told.read_text()

    def _type(self, command: str, wanted: str) -> None:
        if command.startswith("samovar serve "):
            self._end()
            self._target = command.split()[2]
            got = self._introduction() if wanted else ""
        else:
            got = self._run(command)
        log = ""
        if self._served is not None:
            got = got.replace(f"127.0.0.1:{self._served.port}", ADDRESS)
            log = self._served.log_path.read_text()
        is_same = doctest.OutputChecker().check_output(f"{wanted.strip()}\n", f"{got.strip()}\n", doctest.ELLIPSIS)
        assert is_same, f"$ {command}\nthe page has\n{wanted}\ngot\n{got}\n{log}"

    def _engine(self) -> Served:
        if self._served is None:
            own = self._folder / self._target
            self._served = self._serve(str(own if own.exists() else ROOT / self._target))
        return self._served

    def _run(self, command: str) -> str:
        if command.startswith(("samovar infer ", "samovar models ")):
            command += f" --engine {self._engine().ready['admin']}"
        if ADDRESS in command:
            command = command.replace(ADDRESS, f"127.0.0.1:{self._engine().port}")
        command = command.replace(" examples/", f" {ROOT}/examples/")
        ran = typed(command, self._folder, timeout_s=40)
        return ran.stdout + ran.stderr


def _dialogue(text: str) -> Iterator[tuple[str, str]]:
    """Each command, with the lines below it that are no command."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        length = next(count for count, line in enumerate(lines, 1) if not line.endswith("\\\n"))
        yield "".join(lines[:length]).rstrip("\n"), "".join(lines[length:])
