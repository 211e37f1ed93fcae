"""`samovar.Server`: an engine as a child process of a Python program."""

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from samovar.config import configure
from samovar.errors import ServerError, TargetError
from samovar.repository.targets import Target, parse_target
from samovar.server.handover import Handover, command, environment

__all__ = ["Server"]

_GRACE_S = 10.0
_SHOWN_LINES = 10


@dataclass(frozen=True)
class _Process:
    """The child, and the write end of its lifeline."""

    child: "subprocess.Popen[bytes]"
    lifeline: int

    def end(self, timeout_s: float) -> int:
        """Have it stop in good order within the time, else at once; the exit code."""
        self.child.terminate()
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()
        finally:
            os.close(self.lifeline)


class Server:
    """A running engine.

    Targets are paths (`"app.py"`, `"app.py:Stn"`, a model file, a folder of models) or decorated classes; options are
    the fields of `samovar.config.ServerConfig`, `config` the path of a configuration file. The constructor returns when
    the loads of the start have ended and at least one model serves; it raises ServerError with the causes otherwise,
    ConfigError for an option that does not fit, TargetError for a target that cannot be found.
    With `quiet`, the engine's log and its workers' output are dropped. Use it in a `with` block, or call `stop`.
    """

    def __init__(
        self, *targets: str | Path | type, config: str | Path | None = None, quiet: bool = False, **options: Any
    ) -> None:
        if sys.orig_argv[-2:] == ["samovar", "worker"]:
            raise ServerError(
                "a worker that imports this file would start another server", 'put it under if __name__ == "__main__":'
            )
        if not targets:
            raise TargetError("there is nothing to serve", "name a model file, a folder of models, or a class")
        configuration = configure(options, os.environ, config=config)
        settings = configuration.server
        self._stop_timeout_s = settings.drain_delay_s + settings.drain_timeout_s + _GRACE_S
        found = [_target_of(target) for target in targets]
        self._process, news = _start(lambda pipes: Handover(found, configuration, *pipes), quiet)
        self._end = weakref.finalize(self, self._process.end, _GRACE_S)
        self._started = self._wait(news)

    @property
    def url(self) -> str:
        """Where the HTTP door is: `http://127.0.0.1:8000`, or `unix:/path`."""
        http = self._started["addresses"]["http"]
        if http["path"] is not None:
            return f"unix:{http['path']}"
        host = f"[{http['host']}]" if ":" in http["host"] else http["host"]
        return f"http://{host}:{http['port']}"

    @property
    def models(self) -> list[dict[str, Any]]:
        """Every model with `name`, `version`, `state` and `cause`, as they were when the start had ended."""
        return list(self._started["models"])

    @property
    def pid(self) -> int:
        """The process id of the engine."""
        return self._process.child.pid

    def stop(self) -> None:
        """Let running requests finish, then end the engine. Raises ServerError if it did not end in good order."""
        if self._end.detach() is None:
            return
        exit_code = self._process.end(self._stop_timeout_s)
        if exit_code != 0:
            raise ServerError(f"the engine ended with exit code {exit_code}", "its log says why")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait(self, news: int) -> dict[str, Any]:
        """What the engine tells of its start."""
        with os.fdopen(news, "rb") as pipe:
            content = pipe.read()
        started: dict[str, Any] = json.loads(content) if content else {}
        models = started.get("models")
        if models is not None and (not models or any(model["state"] != "failed" for model in models)):
            return started
        self._end.detach()
        exit_code = self._process.end(_GRACE_S)
        if not content:
            raise ServerError(f"the engine ended with exit code {exit_code} before it had started", "its log says why")
        raise ServerError(started.get("error") or "\n".join(map(_failure, started["models"])))


def _start(handover: Callable[[tuple[int, int]], Handover], quiet: bool) -> tuple[_Process, int]:
    """Start the engine; the process, and the pipe that tells when it has started."""
    news, news_of_child = os.pipe()
    lifeline_of_child, lifeline = os.pipe()
    settings = handover((news_of_child, lifeline_of_child)).write()
    inherited = (settings, news_of_child, lifeline_of_child)
    sink = subprocess.DEVNULL if quiet else None
    try:
        child = subprocess.Popen(
            command(settings),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            pass_fds=inherited,
            env=environment(),
        )
    finally:
        for descriptor in inherited:
            os.close(descriptor)
    return _Process(child, lifeline), news


def _target_of(target: str | Path | type) -> Target:
    """The file and class name of a target."""
    if not isinstance(target, type):
        return parse_target(str(target))
    file = getattr(sys.modules.get(target.__module__), "__file__", None)
    if file is None or not Path(file).is_file():
        raise TargetError(
            f"class {target.__name__} is defined in no file (but in a notebook or an interactive session), where a "
            "worker cannot find it",
            "write it to a .py file",
        )
    if target.__qualname__ != target.__name__:
        raise TargetError(f"class {target.__qualname__} is not at the top of its module", "move it there")
    return Target(Path(file).absolute(), target.__name__)


def _failure(model: dict[str, Any]) -> str:
    """Why a model failed, with the last lines that its worker wrote."""
    cause = model["cause"] or {}
    words = [f'model "{model["name"]}": {cause.get("message") or "failed"}', cause.get("next_step")]
    lines = (cause.get("stderr") or [])[-_SHOWN_LINES:]
    return "\n    ".join(["; ".join(word for word in words if word), *lines])
