"""Paths of methods and mounted applications: what they look like, and which ones the engine keeps."""

import re

from samovar.errors import ConfigError
from samovar.types import RESERVED_NAMES

__all__ = ["check_path", "parameters_of"]

_LITERAL = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")  # "." and ".." are no names
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ENGINE_PATHS = RESERVED_NAMES | {"admin"}


def check_path(path: object, where: str, *, parameters: bool) -> str:
    """`path`, which can be served. Raises ConfigError; `where` ends its message: `in @samovar.api of recognize`."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise ConfigError(f"path {_shown(path)} {where} does not start with /", "write the whole path: /plates/find")
    segments = path[1:].split("/")
    for segment in segments:
        if not (_LITERAL.fullmatch(segment) or (parameters and _PARAMETER.fullmatch(segment))):
            allowed = "letters, digits, . _ ~ -" + (", or one {parameter}" if parameters else "")
            raise ConfigError(f'path {_shown(path)} {where} has the segment "{segment}"', f"a segment is {allowed}")
    if segments[0] in _ENGINE_PATHS or segments[0].startswith("{"):
        raise ConfigError(
            f"path {_shown(path)} {where} would hide paths of the engine", "let it start with a name of your own"
        )
    return path


def parameters_of(path: str) -> list[str]:
    """The names in braces."""
    return _PARAMETER.findall(path)


def _shown(path: object) -> str:
    return repr(path)[:80]
