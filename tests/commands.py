"""The command line in this process."""

import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from samovar import cli


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: object
    out: str
    err: str


def run(*words: str, stdin: bytes = b"") -> Ran:
    """Run `samovar` with these words, its streams in pipes."""
    before = signal.getsignal(signal.SIGINT)
    out, err = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(stdin))
    with (
        mock.patch.object(sys, "argv", ["samovar", *words]),
        mock.patch.object(sys, "stdin", given),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            code: object = cli.main()
        except SystemExit as ended:
            code = ended.code
        finally:
            signal.signal(signal.SIGINT, before)
    return Ran(code, out.getvalue(), err.getvalue())
