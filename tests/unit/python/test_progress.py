"""The line of a start on a terminal."""

import io
import os
import sys

import pytest

from samovar.control.progress import Progress


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def look(monkeypatch: pytest.MonkeyPatch, columns: int = 60) -> Terminal:
    """Put a terminal in the place of standard error."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    monkeypatch.setenv("TERM", "xterm")
    return stream


def drawn(terminal: Terminal) -> list[str]:
    """What stood in the line, one after another."""
    return terminal.getvalue().split("\r\x1b[K")[1:]


def test_it_counts_and_names_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look(monkeypatch)
    clock = Clock()
    progress = Progress(is_shown=True, clock=clock)
    assert progress.wait_s is None, "nothing is under way"
    progress.begin("app")
    progress.begin("lprnet")
    progress.draw()
    clock.now += 3
    progress.split("app", ["stn", "detector"])
    assert progress.end("lprnet") == 3
    progress.draw()
    clock.now += 3
    progress.work("stn")
    progress.draw()
    clock.now += 3
    progress.work("detector")
    progress.draw()
    clock.now += 3
    assert progress.end("stn") == 12
    progress.draw()
    assert progress.wait_s is not None
    assert progress.end("detector") == 12
    assert progress.end("detector") is None
    assert progress.wait_s is None
    progress.clear()
    assert drawn(terminal) == [
        "loading 0/2  app 0 s, lprnet 0 s",
        "loading 1/3  2 waiting",
        "loading 1/3  stn 6 s, 1 waiting",
        "loading 1/3  stn 9 s, detector 9 s",
        "loading 2/3  detector 12 s",
        "",
    ]


def test_it_is_not_drawn_more_than_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look(monkeypatch)
    clock = Clock()
    progress = Progress(is_shown=True, clock=clock)
    progress.begin("stn")
    for _ in range(100):
        clock.now += 0.01
        progress.draw()
    assert 8 <= len(drawn(terminal)) <= 11


@pytest.mark.parametrize("columns", [1, 5, 20, 40, 200])
def test_it_fits_into_one_line(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    terminal = look(monkeypatch, columns)
    progress = Progress(is_shown=True, clock=Clock())
    for name in ("a" * 200, "stn", "lprnet"):
        progress.begin(name)
    progress.draw()
    (line,) = drawn(terminal)
    assert len(line) <= max(columns - 1, 1)
    if columns == 200:
        assert line == f"loading 0/3  {'a' * 21}... 0 s, stn 0 s, lprnet 0 s"


def test_what_is_not_shown_is_timed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, clock = look(monkeypatch), Clock()
    progress = Progress(is_shown=False, clock=clock)
    progress.begin("stn")
    progress.draw()
    assert progress.wait_s is None
    clock.now += 2
    assert progress.end("stn") == 2
    progress.clear()
    assert terminal.getvalue() == ""
