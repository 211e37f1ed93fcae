r"""Standard output and error of user code, tagged with the requests on whose behalf it writes.

A line is `\x1e<instance>:<request ids>\x1f<text>` while a call runs and plain otherwise; the engine makes log fields of
it.
"""

import re
import threading
from io import TextIOWrapper
from typing import Any, Self, TextIO, cast

from samovar.context import TAG_END, TAG_START, Tag, running

__all__ = ["Tag", "TaggedStream", "running"]

_MOST_KEPT = 8_192  # characters of a line that has not ended
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


class TaggedStream:
    """A text stream that starts each line with the tag of the running call and is else the stream behind it.

    Lines are whole: what a thread has begun is kept until it ends the line, as `print` writes the end by itself.
    """

    def __init__(self, stream: TextIOWrapper) -> None:
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._stream = stream
        self._lock = threading.RLock()  # a signal handler may write while its thread does
        self._at_line_start = True
        self._begun = _Begun()

    @classmethod
    def over(cls, stream: TextIO) -> TextIO:
        """`stream` with tags, to be put in its place."""
        return cast("TextIO", cls(cast("TextIOWrapper", stream)))

    def write(self, text: str) -> int:
        """Write, with the tag at the start of every line."""
        whole, end, rest = f"{self._begun.text}{text}".rpartition("\n")
        self._begun.text = rest
        self._put(whole + end)
        if len(rest) > _MOST_KEPT:
            self._put_begun()
        return len(text)

    def flush(self) -> None:
        """Write out what this thread has written, the beginning of a line too."""
        self._put_begun()
        self._stream.flush()

    def writelines(self, lines: Any) -> None:
        """Write each of `lines`."""
        self.write("".join(lines))

    def _put_begun(self) -> None:
        begun, self._begun.text = self._begun.text, ""
        self._put(begun)

    def _put(self, text: str) -> None:
        with self._lock:
            tag = running.get()
            prefix = tag.prefix() if tag is not None and text else ""
            self._stream.write("".join(self._tagged(line, prefix) for line in _LINES.findall(text)))

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
        self.flush()


class _Begun(threading.local):
    """The line that a thread has begun."""

    text = ""
