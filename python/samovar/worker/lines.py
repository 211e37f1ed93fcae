r"""Standard output and error of user code, tagged with the requests on whose behalf it writes.

A line is `\x1e<request ids>\x1f<text>` while a call runs and plain otherwise; the engine makes log fields of it.
"""

import re
import threading
from io import TextIOWrapper
from typing import Any, Self, TextIO, cast

from samovar.context import TAG_END, TAG_START, Tag, running

__all__ = ["Tag", "TaggedStream", "running"]

_LINES = re.compile(r"[^\n]*\n|[^\n]+")


class TaggedStream:
    """A text stream that starts each line with the tag of the running call and is else the stream behind it."""

    def __init__(self, stream: TextIOWrapper) -> None:
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._stream = stream
        self._lock = threading.RLock()  # a signal handler may write while its thread does
        self._at_line_start = True

    @classmethod
    def over(cls, stream: TextIO) -> TextIO:
        """`stream` with tags, to be put in its place."""
        return cast("TextIO", cls(cast("TextIOWrapper", stream)))

    def write(self, text: str) -> int:
        """Write, with the tag at the start of every line."""
        with self._lock:
            tag = running.get()
            prefix = tag.prefix() if tag is not None else ""
            self._stream.write("".join(self._tagged(line, prefix) for line in _LINES.findall(text)))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of `lines`."""
        self.write("".join(lines))

    def _tagged(self, line: str, prefix: str) -> str:
        starts, self._at_line_start = self._at_line_start, line.endswith("\n")
        if starts and (prefix or line.startswith(TAG_START)):  # user text must not pass for a tag
            return (prefix or TAG_START + TAG_END) + line
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()
