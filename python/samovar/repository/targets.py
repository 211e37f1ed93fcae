"""What the command line names: `file.py` or `file.py:Class`."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samovar.errors import TargetError
from samovar.model import snake_case
from samovar.runtimes import Question, runtime_for
from samovar.types import check_name

__all__ = ["Target", "parse_target"]


@dataclass(frozen=True)
class Target:
    """A file whose models are to be served; `name` picks one class of it."""

    path: Path
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.name}" if self.name else str(self.path)

    def question(self, name: str | None = None) -> dict[str, Any]:
        """The body of the verb `describe`, for the class `name` where it is given."""
        return Question(self.path, name or self.name).to_json()

    @property
    def placeholder(self) -> str:
        """The name under which a target stands that could not be described."""
        name = re.sub(r"[^A-Za-z0-9._-]", "_", snake_case(self.name or self.path.stem))
        return name if check_name("model", name) is None else f"target_{name}"[:255]


def parse_target(text: str) -> Target:
    """The target that `text` names. Raises TargetError for what does not exist or has no format that is served."""
    location, separator, name = text.rpartition(":")
    if not separator or Path(text).exists():
        location, name = text, ""
    path = Path(location)
    if not path.exists():
        raise TargetError(f'target "{location}" does not exist', _nearest(path))
    if path.is_dir():
        raise TargetError(f'target "{location}" is a folder', "name a Python file (.py) in it")
    if separator and location != text and not name.isidentifier():
        raise TargetError(f'target "{text}" names the class "{name}"', "write file.py or file.py:Class")
    runtime_for(path)
    return Target(path.absolute(), name or None)


def _nearest(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f'there is no folder "{folder}"'
    files = sorted(other.name for other in folder.iterdir() if other.suffix == ".py")
    near = difflib.get_close_matches(path.name, files, n=3) or files[:3]
    return f"Python files there: {', '.join(near)}" if near else f'there are no Python files in "{folder.resolve()}"'
