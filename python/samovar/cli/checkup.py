"""The facts that `samovar doctor` tells, as data."""

import os
import platform
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from samovar.cli.engines import Running, is_own, running
from samovar.config import ServerConfig, configure, machine
from samovar.errors import ConfigError
from samovar.repository.folders import CONFIG
from samovar.runtimes import RUNTIMES, runtime_named

__all__ = ["examine"]

_PACKAGES = ("samovar", "numpy", "ml_dtypes", "onnxruntime", "torch")
_FEW_FILES = 1_024
_MIB = 1 << 20


def examine(config: Path | None) -> dict[str, Any]:
    """Versions, runtimes, the machine, what a start would use, engines, and `problems`: faults with their cures."""
    engines = running()
    problems = [*_broken_packages(), *_broken_machine(), *_silent(engines)]
    start: dict[str, Any] = {}
    try:
        settings = configure({}, os.environ, config=config).server
        start = _start(settings, config)
        problems += _broken_start(settings, engines)
    except ConfigError as error:
        problems.append(str(error))
    return {
        "versions": _versions(),
        "runtimes": {name: _runtime(name) for name in RUNTIMES},
        "machine": _machine(),
        "start": start,
        "engines": [_engine(engine) for engine in engines],
        "problems": problems,
    }


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version(), "system": platform.platform()}
    return {**versions, **{package: _version(package) for package in _PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _runtime(name: str) -> dict[str, Any]:
    """Whether the modules of a runtime are there, and how to get them."""
    runtime = runtime_named(name)
    packages = dict.fromkeys(module.partition(".")[0] for module in runtime.IMPORTS)
    missing = [package for package in packages if find_spec(package) is None]
    extra = runtime.ABOUT.extra
    wanted = f"'samovar[{extra}]'" if extra else " ".join(missing)
    install = runtime.ABOUT.install or f"pip install {wanted}"
    return {"found": not missing, "missing": missing, "install": install if missing else ""}


def _machine() -> dict[str, str]:
    return {
        "processors": str(machine.cpus()),
        "memory": f"{machine.memory_bytes() // _MIB} MiB",
        "open_files": str(machine.file_limit()),
    }


def _start(settings: ServerConfig, config: Path | None) -> dict[str, str]:
    """What `samovar serve` in this folder would use."""
    file = config or os.environ.get("SAMOVAR_CONFIG") or CONFIG
    ports = f", HTTP {settings.http_port}, gRPC {settings.grpc_port}"
    reached = "this machine" if settings.is_loopback else f"whoever reaches {settings.host}, without a password"
    return {
        "settings": str(file) if Path(file).is_file() else "defaults and environment",
        "listens_on": settings.host + ("" if settings.is_unix else ports),
        "open_to": reached,
        "load_and_unload": _control(settings),
        "admin_socket": _admin_socket(settings),
        "bodies": f"{settings.max_body_bytes // _MIB} MiB each, {settings.max_bodies_bytes // _MIB} MiB together",
        "requests": f"{settings.max_requests} in flight",
        "connections": str(settings.max_connections),
    }


def _admin_socket(settings: ServerConfig) -> str:
    return f"{machine.admin_folder()}/PID.sock" if settings.admin_socket == "auto" else settings.admin_socket


def _control(settings: ServerConfig) -> str:
    places = ["HTTP", "gRPC"] if settings.control == "explicit" else []
    return ", ".join([*places, *(["admin socket"] if settings.admin_socket != "none" else [])]) or "nowhere"


def _engine(engine: Running) -> dict[str, Any]:
    """An engine, and its versions by state; None where it does not answer."""
    if engine.state is None:
        return {"pid": int(engine.pid), "url": None, "models": None}
    models: dict[str, list[str]] = {}
    for model in engine.state["models"]:
        models.setdefault(model["state"], []).append(f"{model['name']}/{model['version']}")
    return {"pid": int(engine.pid), "url": engine.url, "models": models}


def _broken_packages() -> Iterator[str]:
    if find_spec("samovar._core") is None:
        yield "samovar has no extension module; install it again (in a checkout: make build)"
    for requirement in metadata.requires("samovar") or ():
        package = re.split("[<>=!~; ]", requirement)[0]
        if "extra ==" not in requirement and _version(package) is None:
            yield f"{package}, which samovar needs, is not installed; run: pip install {package}"


def _broken_machine() -> Iterator[str]:
    if machine.file_limit() < _FEW_FILES:
        yield f"only {machine.file_limit()} files may be open; raise the limit (ulimit -n) to {_FEW_FILES} or more"
    folder = machine.admin_folder()
    if folder.exists() and not is_own(folder):
        yield f"{folder} is not yours alone, so that no admin socket can be there; remove it, or set XDG_RUNTIME_DIR"


def _silent(engines: list[Running]) -> Iterator[str]:
    for engine in engines:
        if engine.state is None:
            yield f"the engine with the process id {engine.pid} does not answer; end it: kill -9 {engine.pid}"


def _broken_start(settings: ServerConfig, engines: list[Running]) -> Iterator[str]:
    """What the doors could not bind, unless a running engine of this user has it."""
    if settings.is_unix:
        return
    taken = {port for engine in engines for port in engine.ports}
    for option, port in (("--http-port", settings.http_port), ("--grpc-port", settings.grpc_port)):
        fault = None if port in taken else _bind_fault(settings.host, port)
        if fault:
            yield f"{settings.host}, port {port} cannot be bound: {fault}; choose another --host or {option}"


def _bind_fault(host: str, port: int) -> str | None:
    try:
        name = host.removeprefix("[").removesuffix("]")
        family, kind, _, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return None
