"""What a file has, found out in a process of its own: a file that crashes, hangs or prints is nobody else's trouble.

`python -m samovar.cli.inspection DESCRIPTOR` reads a Question from standard input and writes its answer to DESCRIPTOR.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from samovar.errors import describe_failure
from samovar.runtimes import Question, runtime_for

__all__ = ["ask"]

_TIMEOUT_S = 120.0
_STDERR = 2


def ask(question: Question) -> dict[str, Any]:
    """What is at a path: `models`, or the `cause` why that cannot be said. What its code prints goes to stderr."""
    answers, answers_of_child = os.pipe()
    command = [sys.executable, "-P", "-m", "samovar.cli.inspection", str(answers_of_child)]
    try:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=_STDERR, pass_fds=[answers_of_child])
    finally:
        os.close(answers_of_child)
    with os.fdopen(answers, "rb") as pipe, child:
        try:
            child.communicate(json.dumps(question.to_json()).encode(), _TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            return _silence(question.path, f"took longer than {_TIMEOUT_S:.0f} s")
        answer = pipe.read()
    return json.loads(answer) if answer else _silence(question.path, _end(child.returncode))


def answer(question: Question) -> dict[str, Any]:
    """The answer to a question, in this process."""
    try:
        return {"models": runtime_for(question.path).inspect(question), "cause": None}
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
    with os.fdopen(int(sys.argv[1]), "wb") as pipe:
        os.set_inheritable(pipe.fileno(), False)  # what the file starts must not keep the command waiting
        pipe.write(json.dumps(answer(Question.from_json(json.load(sys.stdin)))).encode())


if __name__ == "__main__":
    _main()
