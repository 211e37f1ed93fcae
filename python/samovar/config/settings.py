"""The options: each declared once, with its default, its unit in the name, and its help.

`crates/core/src/config.rs` mirrors them; it has no defaults of its own.
"""

import ipaddress
import os
import sys
from collections.abc import Callable
from dataclasses import Field, asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from samovar.config import machine

__all__ = ["OWN_WORKER", "ModelConfig", "ServerConfig"]

OWN_WORKER = "own"
_MIB = 1 << 20
_RESERVED_FILES = 256


def _option(
    help_text: str,
    default: Any = None,
    *,
    factory: Callable[[], Any] | None = None,
    shown: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """A field; `factory` computes a default that depends on the machine, `shown` is how help names it."""
    metadata = {"help": help_text, "shown": shown, "minimum": minimum, "maximum": maximum}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def _name(help_text: str, default: str | None, *, shown: str | None = None) -> Any:
    """A text that could be the name of a model."""
    option = _option(help_text, default, shown=shown)
    return field(default=default, metadata={**option.metadata, "is_name": True})


def _count(help_text: str, default: int, minimum: int = 1) -> Any:
    return _option(help_text, default, minimum=minimum)


def _seconds(help_text: str, default: float) -> Any:
    return _option(help_text, default, minimum=0)


def _engine_threads() -> int:
    """One thread beat two on two processors by 12-16 %: the others belong to workers and clients."""
    return min(max(machine.cpus() // 4, 1), 4)


def _max_connections() -> int:
    limit = machine.file_limit()
    return max(limit - _RESERVED_FILES, limit // 2, 1)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Settings of one engine."""

    host: str = _option("address to bind: an IP address, a host name, or unix:/path", "127.0.0.1")
    http_port: int = _option("HTTP port; 0 picks a free one", 8000, minimum=0, maximum=65_535)
    grpc_port: int = _option("gRPC port; 0 picks a free one", 8001, minimum=0, maximum=65_535)
    admin_socket: str = _option("path of the admin socket, or none", "auto")
    control: Literal["none", "explicit"] = _option("may clients load and unload models over HTTP and gRPC", "none")
    strict_readiness: bool = _option("the engine is ready only while every model is", default=False)
    drain_timeout_s: float = _seconds("longest wait for running requests at a stop", 30.0)
    drain_delay_s: float = _seconds("keep serving this long after readiness turned false", 0.0)
    log_format: Literal["auto", "text", "json"] = _option("log lines; auto: text on a terminal, else json", "auto")
    access_log: bool = _option("log one line per request", default=True)
    expose_errors: Literal["auto", "message", "id"] = _option(
        "what a caller learns of a model's exception; auto: its message on loopback addresses, else the request id",
        "auto",
    )
    engine_threads: int = _option(
        "threads of the data plane", factory=_engine_threads, shown="a quarter of the processors, 1 to 4", minimum=1
    )
    max_body_bytes: int = _count("largest request body, as sent and as decoded", 128 * _MIB)
    compress_responses: bool = _option("compress answers for clients that take gzip or deflate", default=False)
    max_bodies_bytes: int = _option(
        "all request bodies in memory together",
        factory=lambda: machine.memory_bytes() // 4,
        shown="a quarter of the memory",
        minimum=1,
    )
    max_requests: int = _count("requests in flight", 4_096)
    max_connections: int = _option(
        "open connections", factory=_max_connections, shown="the limit of open files less a reserve", minimum=1
    )
    header_timeout_s: float = _seconds("longest time for the head of a request", 10.0)
    keep_alive_s: float = _seconds("longest silence between two requests of a connection", 60.0)
    allowed_origins: tuple[str, ...] = _option("origin, besides Host, whose browser pages may call", ())
    allowed_hosts: tuple[str, ...] = _option("name, besides the loopback ones, that Host may have on loopback", ())
    trust: tuple[str, ...] = _option("model whose file may run code when it is loaded; * is every model", ())
    max_loads: int = _option(
        "loads at once; others wait for their turn",
        factory=lambda: max(machine.cpus(), 2),
        shown="the processors, at least 2",
        minimum=1,
    )
    spare_workers: int = _count("started workers kept in reserve", 1, minimum=0)
    default_worker: str = _name("worker of models that name none: own, shared, or the name of a group", OWN_WORKER)
    transport: Literal["shm", "inline"] = _option("how tensors travel to workers: shared memory or the socket", "shm")
    ready_file: str | None = _option("file to write when the loads of the start have ended", None)

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the engine."""
        if self.host == "localhost" or self.is_unix:
            return True
        try:
            return ipaddress.ip_address(self.host.removeprefix("[").removesuffix("]")).is_loopback
        except ValueError:
            return False

    @property
    def is_unix(self) -> bool:
        """True if `host` is the path of a Unix socket."""
        return self.host.startswith("unix:")

    @property
    def tells_exceptions(self) -> bool:
        """True if callers learn the class and message of an exception, and not the id of their request alone."""
        return self.expose_errors == "message" or (self.expose_errors == "auto" and self.is_loopback)

    def _admin_path(self) -> str | None:
        if self.admin_socket == "auto":
            return str(machine.admin_folder() / f"{os.getpid()}.sock")
        return None if self.admin_socket == "none" else str(Path(self.admin_socket).absolute())

    def to_engine(self) -> dict[str, Any]:
        """The settings as `crates/core/src/config.rs` (EngineConfig) reads them, every "auto" decided."""
        settings = asdict(self)
        del settings["ready_file"], settings["default_worker"], settings["trust"]
        settings["admin_socket"] = self._admin_path()
        settings["admin_optional"] = self.admin_socket == "auto"
        if self.log_format == "auto":
            settings["log_format"] = "text" if sys.stderr and sys.stderr.isatty() else "json"
        settings["expose_errors"] = "message" if self.tells_exceptions else "id"
        # -P: a file of the working directory named like a module of the standard library must not replace it.
        settings["worker_command"] = [sys.executable, "-P", "-m", "samovar", "worker"]
        return settings


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Settings of one model; its decorator sets them, `[models.<name>]` of samovar.toml overrides."""

    max_batch_size: int | None = _option(
        "most rows of one call", None, shown="64 where there is a batch axis, else 1", minimum=1, maximum=1 << 20
    )
    max_queue_delay_ms: float | Literal["auto"] = _option(
        "longest wait for batch mates", "auto", shown="auto: a moment where past calls show that it pays", minimum=0
    )
    instances: int = _option("loaded copies, each in another worker", 1, minimum=1, maximum=1_024)
    worker: str | None = _name(
        "worker of an instance: own, shared, or the name of a group that shares one",
        None,
        shown="default_worker of the engine, which is own",
    )
    threads: int | None = _option(
        "processor threads of one instance; of a Python class those of OpenMP, OpenBLAS and MKL",
        None,
        shown="the processors divided among the instances; 1 in a shared worker",
        minimum=1,
        maximum=1_024,
    )
    concurrency: int = _option("calls at a time per instance (async predict)", 1, minimum=1, maximum=65_536)
    idempotent: bool = _option("may a request run twice, after a worker's death for instance", default=True)
    batch_errors: Literal["isolated", "shared"] = _option(
        "an exception in a call is the answer of the one request that raises it, found by running halves of the batch "
        "again, or is shared by all",
        "isolated",
    )
    writable_inputs: bool = _option("give predict writable copies of its inputs", default=False)
    warm_up: bool | None = _option(
        "run samples before a version takes requests: those of the model's warm_up, else zeros",
        None,
        shown="true; of a Python class without the method warm_up false",
    )
    load_timeout_s: float = _seconds("longest time of a load and its warm-up", 120.0)
    request_timeout_s: float = _seconds("time limit of a request that names none", 30.0)
    max_request_timeout_s: float | None = _option(
        "longest time limit of a request, whatever it names or leaves out",
        None,
        shown="no limit",
        minimum=0,
    )
    hard_kill_after_s: float | None = _option(
        "how long a call may run on for nobody, its requests answered or gone, before its worker is killed",
        None,
        shown="never",
        minimum=0,
    )
    max_memory_bytes: int | None = _option(
        "address space of an instance's worker (RLIMIT_AS), beyond which it gets no more memory",
        None,
        shown="no limit",
        minimum=1,
    )
    max_queue_items: int = _count("requests waiting", 2_048)
    max_queue_bytes: int = _count("bytes of the requests waiting", 256 * _MIB)

    def to_engine(self, *, batch_axis: bool) -> dict[str, Any]:
        """The options as `crates/core/src/config.rs` (ModelOptions) reads them."""
        options = asdict(self)
        if self.max_batch_size is None:
            options["max_batch_size"] = 64 if batch_axis else 1
        options["worker"] = self.worker or OWN_WORKER
        if self.threads is None:
            is_shared = options["worker"] != OWN_WORKER
            options["threads"] = 1 if is_shared else max(machine.cpus() // self.instances, 1)
        if self.max_queue_delay_ms == "auto":
            options["max_queue_delay_ms"] = None
        return options


def default_text(option: "Field[Any]") -> str:
    """The default of an option, for people."""
    if option.metadata["shown"]:
        return str(option.metadata["shown"])
    if isinstance(option.default, bool):
        return "true" if option.default else "false"
    return "none" if option.default in (None, ()) else str(option.default)
