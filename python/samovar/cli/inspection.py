"""What a file has, found out in a process of its own: a file that crashes, hangs or prints is nobody else's trouble.

`python -m samovar.cli.inspection DESCRIPTOR` reads a Question from standard input and writes its answer to that file.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from samovar.errors import describe_failure
from samovar.runtimes import Question, describe

__all__ = ["ask"]

_TIMEOUT_S = 120.0
_STDERR = 2


def ask(question: Question) -> dict[str, Any]:
    """What is at a path: `models`, or the `cause` why that cannot be said. What its code prints goes to stderr."""
    with tempfile.TemporaryFile() as file:  # a pipe would be full at 64 KiB, and held open by what the code starts
        command = [sys.executable, "-P", "-m", "samovar.cli.inspection", str(file.fileno())]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=_STDERR, pass_fds=[file.fileno()], start_new_session=True
        )
        try:
            child.communicate(json.dumps(question.to_json()).encode(), _TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return _silence(question.path, f"took longer than {_TIMEOUT_S:.0f} s")
        finally:  # nor may it, or what it started, live on after Ctrl-C
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        file.seek(0)
        content = file.read()
    return json.loads(content) if content else _silence(question.path, _end(child.returncode))


def answer(question: Question) -> dict[str, Any]:
    """The answer to a question, in this process."""
    try:
        return {"models": describe(question), "cause": None}
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is an answer
        return {"models": [], "cause": describe_failure(error)}


def _silence(path: Path, fault: str) -> dict[str, Any]:
    cause = {"message": f"{path.name} {fault} when it was described", "exception": None, "traceback": ""}
    return {"models": [], "cause": {**cause, "next_step": "run it with python to see why"}}


def _end(returncode: int) -> str:
    if returncode >= 0:
        return f"ended its process with exit code {returncode}"
    return f"ended its process by {signal.Signals(-returncode).name}"


def _main() -> None:
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    question = Question.from_json(json.load(sys.stdin))
    content = json.dumps(answer(question)).encode()
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


if __name__ == "__main__":
    _main()
