"""The extension module: the data plane for the engine process, the frame channel for a worker process."""

import sys
from collections.abc import Sequence
from typing import final

from typing_extensions import Buffer

__all__ = [
    "Ask",
    "Call",
    "Engine",
    "Step",
    "TensorBuffer",
    "WorkerChannel",
    "__version__",
    "check_settings",
    "check_version",
    "error_codes",
    "error_statuses",
]

__version__: str

def check_settings(settings: str) -> None:
    """Check the JSON of `samovar.config.ServerConfig.to_engine()` against the engine's own structure.

    Raises ValueError that names the unknown or missing field.
    """

def check_version(spec: str) -> None:
    """Check the JSON of a version (`Engine.deploy`) against the engine's own structure.

    Raises ValueError that names the unknown or missing field.
    """

def error_codes() -> list[tuple[str, str]]:
    """Every error slug with its meaning, in the order of the catalogue."""

def error_statuses() -> list[tuple[str, int, int]]:
    """Every error slug with its status over HTTP and over gRPC, in the order of the catalogue."""

@final
class Engine:
    """The data plane of one engine process: doors, queues, channels and the supervision of workers."""

    def __new__(cls, settings: str, inherited: list[str]) -> Engine:
        """Start the data plane: its threads run and its doors are bound when this returns; nothing is ready yet.

        `inherited` says which doors, "http" or "grpc", the sockets of LISTEN_FDS are, in their order. Where there are
        any none is bound, these are opened by `mark_started`, and the variables are removed. Raises OSError where an
        address cannot be bound (its file name says whose: "http", "grpc" or "admin"), ValueError where `settings` does
        not fit.
        """

    def addresses(self) -> str:
        """Where the doors are, as JSON: `{"http": place, "grpc": place | null, "admin": path | null}`.

        A place is `{"host": str, "port": int | null, "path": str | null}`; there is no second one beside a Unix socket.
        """

    def probe(self, request: str, is_passing: bool) -> int:
        """Let a fresh worker describe a target, and keep that worker; the answer is an event with this number.

        With `is_passing` the worker is not kept, and describes other such targets too.

        `request` is the body of the verb `describe`.
        """

    def discard(self, probe: int) -> None:
        """End a probed worker that no version took."""

    def deploy(self, spec: str) -> int:
        """Load a version (JSON); it takes over from a version of the same name when it is ready.

        The number is the serial that its events carry. Raises ValueError where `spec` does not fit.
        """

    def declare_failed(self, name: str, version: str, cause: str) -> None:
        """List a model whose target could not even be described; `cause` is the JSON of a version's cause."""

    def retire(self, name: str, version: str) -> bool:
        """Drain and unload a version; False if there is none."""

    def versions(self) -> str:
        """State of every version, as a JSON list.

        Each has `serial`, `name`, `version`, `state`, `cause` (null or `{"message", "exception", "traceback", "signal",
        "stderr", "next_step"}`), `events` (`[{"time", "state", "message"}]`) and `instances` (`[{"index", "pid"}]`).
        """

    def next_event(self, timeout_s: float | None) -> str | None:
        """Wait, without the GIL, for something that needs a decision; None after the timeout.

        JSON: `{"kind": "described", "probe", "body", "cause"}`, where body or cause is null,
        `{"kind": "version", "serial", "name", "version", "state", "cause"}`,
        `{"kind": "load" | "unload", "ticket", "name"}`, or `{"kind": "stop"}`.
        """

    def reply(self, ticket: int, error: str | None) -> None:
        """End a load or unload that a client asked for.

        `error` is None, or JSON: `{"code", "message"}`, where code is a slug of the error catalogue.
        """

    def mark_started(self) -> None:
        """Start-up loads have ended: readiness may turn true, and doors that were inherited open."""

    def stop(self) -> None:
        """Drain and end everything; returns, without the GIL held meanwhile, when no worker is left."""

    def log(self, level: str, message: str, fields: str) -> None:
        """Write a line to the engine's log; `level` is debug, info, warning or error, `fields` a JSON object."""

@final
class TensorBuffer:
    """Read-only bytes of one input; the memory is the client's bytes until the last view of it dies."""

    if sys.version_info >= (3, 12):  # 3.11 has the protocol, but no name for it
        def __buffer__(self, flags: int, /) -> memoryview: ...

    def __len__(self) -> int: ...

@final
class Call:
    """One execution that the engine asked for; it has been claimed."""

    @property
    def id(self) -> int:
        """Number of the call in this channel."""

    @property
    def instance(self) -> int:
        """The instance it is for."""

    @property
    def rows(self) -> int:
        """Rows along the batch axis; 1 where there is none."""

    def inputs(self) -> list[tuple[TensorBuffer, int, tuple[int, ...]]]:
        """Bytes, datatype number and shape of each input, in the order of the signature."""

    def request_ids(self) -> list[str]:
        """Ids of the requests whose rows are in this call."""

    @property
    def method(self) -> str:
        """Of a service: the method that takes the inputs; "" for a model and for an HTTP request."""

    @property
    def deadline(self) -> float:
        """When the engine will have answered, by `time.monotonic()`; infinity where it sets no limit."""

    def requests(self) -> list[tuple[str, int, dict[str, bool | int | float | str], str]]:
        """Id, rows, parameters and W3C traceparent of each request in it; empty once it was answered."""

    def http(self) -> tuple[str, str, str, list[tuple[bytes, bytes]], str, str, str, bool] | None:
        """The head of an HTTP request, once; None for tensors.

        Method, path (percent-encoded), query, headers (lower-case names), protocol version, scheme, the client's
        address and port, and whether the client wants another protocol on its connection.
        """

    def body(self) -> bytes | None:
        """The next piece of the request's body, if it has come; taking it lets the engine send another."""

    @property
    def is_body_over(self) -> bool:
        """True when the whole body has been taken."""

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the answer."""

    @property
    def has_credit(self) -> bool:
        """True if a piece of the answer may be sent."""

    def wait_for_credit(self) -> bool:
        """Wait, without the GIL, until a piece of the answer may be sent; False if nobody waits for it any more."""

    def part(self, outputs: Sequence[tuple[int, tuple[int, ...], Buffer]]) -> bool:
        """Send a piece of the answer, as `finish`; False, and nothing is sent, without credit."""

    def finish(self, outputs: Sequence[tuple[int, tuple[int, ...], Buffer]]) -> None:
        """Answer with datatype number, shape and C-contiguous bytes of each output, in the order of the signature."""

    def respond_part(self, head: tuple[int, Sequence[tuple[bytes, bytes]]] | None, body: bytes) -> bool:
        """Send a piece of an HTTP response, with status and headers in the first; False if there is no credit."""

    def respond(self, head: tuple[int, Sequence[tuple[bytes, bytes]]] | None, body: bytes) -> None:
        """Answer with the rest of an HTTP response, or all of it."""

    def fail(self, class_name: str, message: str, traceback: str, code: str = ...) -> None:
        """Answer that user code raised; `code` is a slug where it passes another model's error on."""

    def refuse_input(self, message: str) -> None:
        """Answer that user code says that what a client sent does not fit."""

    def refuse_output(self, message: str) -> None:
        """Answer that user code returned what cannot be sent."""

@final
class Step:
    """A call of another model; it is cancelled when this object goes before its end."""

    @property
    def number(self) -> int:
        """Its number, as `WorkerChannel.news` has it."""

    def take(self) -> tuple[bool, list[tuple[str, TensorBuffer, int, tuple[int, ...]]], tuple[str, str] | None] | None:
        """What has come next, or None.

        True for the last; name, bytes, datatype number and shape of each output; slug and text of what went wrong.
        """

    def wait(self) -> tuple[bool, list[tuple[str, TensorBuffer, int, tuple[int, ...]]], tuple[str, str] | None]:
        """Wait, without the GIL, for what comes next; after the last nothing does."""

    def drop(self) -> None:
        """Nobody waits for it any more."""

@final
class Ask:
    """A question of the engine beside the calls."""

    @property
    def verb(self) -> str:
        """What is asked: prepare, describe, load, warm, metrics or unload."""

    @property
    def body(self) -> str:
        """JSON object."""

    def tell(self, ok: bool, body: str) -> None:
        """Answer with a JSON object."""

@final
class WorkerChannel:
    """The worker's end of the channel; a thread without the GIL watches the engine."""

    def __new__(cls) -> WorkerChannel:
        """Take over descriptor 0, which the engine left as the set-up socket, and shake hands.

        Raises OSError where descriptor 0 is not such a socket.
        """

    def receive(self) -> Call | Ask | None:
        """Wait, without the GIL, for the next call or question; None when the engine wants this worker to end."""

    def try_receive(self) -> Call | Ask | None:
        """The next call or question if one is there, else None (`ended` tells the rest)."""

    @property
    def ended(self) -> bool:
        """True when the engine wants this worker to end."""

    def fileno(self) -> int:
        """A descriptor that is readable when `try_receive` is worth a call (for an event loop)."""

    def news(self) -> list[int]:
        """Numbers of calls and steps for which something has come since the last look.

        A cancellation, a piece, credit, an end; `fileno` becomes readable for them too.
        """

    def begin(
        self,
        target: tuple[str, str | None],
        parent: int,
        inputs: Sequence[tuple[str, int, tuple[int, ...], Buffer]],
    ) -> Step:
        """Call a model on behalf of the call `parent` (0: of none).

        `target` is its name and version (None: the one that new requests get), `inputs` are name, datatype number,
        shape and C-contiguous bytes of each. Raises MemoryError where the engine grants no memory for them.
        """
