"""The engine process: `python -m samovar engine <descriptor>`."""

import json
import os
import signal
import threading
from typing import Any

from samovar.config import ServerConfig
from samovar.control import Controller
from samovar.control.console import complete_streams, say
from samovar.control.ready_file import ReadyFile
from samovar.control.report import Report
from samovar.errors import SamovarError, ServerError
from samovar.server.handover import Handover, leave_environment
from samovar.server.inherited import Inherited

__all__ = ["main"]


def main(descriptor: int) -> int:
    """Serve until told to stop; the exit code: 0 stopped, 1 nothing could be served, 2 the settings do not fit."""
    complete_streams()
    handover = Handover.read(descriptor)
    leave_environment()
    news = _News(handover.news)
    if handover.lifeline is not None:
        os.set_inheritable(handover.lifeline, False)
        threading.Thread(target=_stop_with, args=(handover.lifeline,), daemon=True).start()
    try:
        return _serve(handover, news)
    except SamovarError as error:
        news.tell({"error": str(error)})
        say(f"samovar: {error}", error=True)
        return 1 if isinstance(error, ServerError) else 2


def _serve(handover: Handover, news: "_News") -> int:
    from samovar import _core

    inherited = Inherited.of(os.environ)
    settings = inherited.settle(handover.configuration.server)
    ReadyFile(settings.ready_file).check()
    try:
        engine = _core.Engine(json.dumps(settings.to_engine()), inherited.names)
    except OSError as error:
        raise _bind_error(settings, error) from error
    except ValueError as error:
        raise ServerError(f"the data plane refuses its settings: {error}") from error
    report = Report(engine, settings, news.tell)
    if inherited.doors:
        places = {door.name: door.place for door in inherited.doors}
        engine.log("info", "the doors are inherited sockets; --host and the ports are not used", json.dumps(places))
    if inherited.remark is not None:
        report.remark(inherited.remark)
    return Controller(engine, handover.configuration, handover.targets, report).run()


def _bind_error(settings: ServerConfig, error: OSError) -> ServerError:
    reason = error.strerror or error
    if error.filename == "admin":
        fault = f"cannot bind the admin socket {settings.admin_socket}: {reason}"
        return ServerError(fault, "choose another --admin-socket, or none")
    if settings.is_unix:
        return ServerError(f"cannot bind {settings.host}: {reason}", "choose another path with --host unix:/path")
    door = "grpc" if error.filename == "grpc" else "http"
    port = settings.grpc_port if door == "grpc" else settings.http_port
    if "://" in settings.host or "]:" in settings.host or settings.host.count(":") == 1:
        fault = f"cannot bind {settings.host}: {reason}"
        return ServerError(fault, f"--host takes an address alone; the port is --{door}-port")
    return ServerError(
        f"cannot bind {settings.host}, port {port}: {reason}",
        f"choose another --host or --{door}-port (0 picks a free port)",
    )


class _News:
    """The pipe to the process that waits for the start; told once."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)  # a worker that held it would hide this process's end

    def tell(self, content: dict[str, Any]) -> None:
        """Write and close."""
        if self._descriptor is None:
            return
        with os.fdopen(self._descriptor, "wb") as pipe:
            self._descriptor = None
            pipe.write(json.dumps(content).encode())


def _stop_with(lifeline: int) -> None:
    """Stop this process in good order when the one that started it is gone."""
    while os.read(lifeline, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
