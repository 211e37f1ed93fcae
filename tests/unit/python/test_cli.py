"""The command line: options come from the dataclass, mistakes end with code 2 and no traceback."""

import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from commands import run
from samovar import cli
from samovar.config import ServerConfig
from samovar.config.settings import default_text
from samovar.server.handover import Handover


class ExecutedError(Exception):
    """Stands for the process that would have taken over."""


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Handover]:
    found: list[Handover] = []

    def execve(_: str, words: list[str], environment: dict[str, str]) -> None:
        assert environment["GLIBC_TUNABLES"]
        descriptor = int(words[-1])
        assert os.get_inheritable(descriptor)
        found.append(Handover.read(descriptor))
        raise ExecutedError

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").touch()
    return found


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["samovar", *words])
    before = signal.getsignal(signal.SIGINT)
    try:
        return cli.main()
    except SystemExit as ended:
        return ended.code
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_full_disk_is_told_without_traceback() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "samovar", "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ran.returncode, ran.stderr) == (1, "samovar: [Errno 28] No space left on device\n")


def test_every_option_of_the_dataclass_has_help_and_default() -> None:
    words = " ".join(run("serve", "--help").out.split())
    for option in fields(ServerConfig):
        assert "--" + option.name.replace("_", "-") in words
        assert f"{option.metadata['help']} [{default_text(option)}]" in words


def test_what_is_given_reaches_the_engine(
    monkeypatch: pytest.MonkeyPatch, executed: list[Handover], tmp_path: Path
) -> None:
    words = [
        "--http-port",
        "0",
        "--no-access-log",
        "--allowed-hosts",
        "a",
        "--allowed-hosts",
        "b",
        "--control",
        "explicit",
    ]
    with pytest.raises(ExecutedError):
        command(monkeypatch, "serve", "app.py:Stn", *words)
    (handover,) = executed
    settings = handover.configuration.server
    assert (str(handover.targets[0]), settings.http_port, settings.access_log) == (f"{tmp_path}/app.py:Stn", 0, False)
    assert (settings.allowed_hosts, settings.control) == (("a", "b"), "explicit")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "ap.py"], 'samovar: target "ap.py" does not exist; what can be served there: app.py\n'),
        (
            ["serve", "app.py", "--http-port", "http"],
            "samovar: setting \"http_port\" as an option is 'http'; it wants a whole number >= 0 and <= 65535\n",
        ),
        (["serve", "app.py", "--config", "x.toml"], 'samovar: configuration file "x.toml" does not exist\n'),
    ],
)
def test_a_mistake_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
    executed: list[Handover],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: Any,
) -> None:
    assert command(monkeypatch, *words) == 2
    assert capsys.readouterr().err == message
    assert executed == []


def test_wrong_usage_ends_with_code_2(monkeypatch: pytest.MonkeyPatch, executed: list[Handover]) -> None:
    assert command(monkeypatch, "serve") == 2
    assert command(monkeypatch, "serve", "app.py", "--no-such-option") == 2
    assert executed == []
