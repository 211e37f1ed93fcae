"""What the start says may go nowhere: that is no fault."""

import io
import sys

import pytest

from samovar.control.console import complete_streams, is_terminal, say


class Full(io.StringIO):
    """A stream on which every write fails."""

    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("name", "error"), [("stdout", False), ("stderr", True)])
@pytest.mark.parametrize("closed", [False, True])
def test_a_line_that_cannot_be_written_is_dropped(
    monkeypatch: pytest.MonkeyPatch, name: str, error: bool, closed: bool
) -> None:
    stream = io.StringIO() if closed else Full()
    if closed:
        stream.close()
    monkeypatch.setattr(sys, name, stream)
    say("one", error=error)
    replaced = getattr(sys, name)
    assert replaced is not stream, "what it still holds would fail again at the exit"
    say("two", error=error)
    replaced.close()


def test_what_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    complete_streams()
    say("é …")
    assert written.getvalue() == b"\xe9 \\u2026\n"


def test_a_stream_that_is_not_there_is_no_other_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    say("lost", error=True)
    assert not is_terminal()
    assert capsys.readouterr().out == ""
