"""What the loops need of `samovar._core`, so that tests can stand in for the engine."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Ask", "Call", "Channel", "Headers", "Step"]

Headers = Sequence[tuple[bytes, bytes]]


class Call(Protocol):
    """One execution; see `samovar._core.Call`."""

    @property
    def id(self) -> int:
        """Number of the call in this channel."""

    @property
    def instance(self) -> int:
        """The instance it is for."""

    @property
    def method(self) -> str:
        """Of a service: the method that takes the inputs."""

    @property
    def deadline(self) -> float:
        """When the engine will have answered."""

    @property
    def cancelled(self) -> bool:
        """True once nobody waits for the answer."""

    @property
    def is_body_over(self) -> bool:
        """True when the whole body has been taken."""

    def inputs(self) -> "Sequence[tuple[Buffer, int, tuple[int, ...]]]":
        """Bytes, datatype number and shape of each input."""

    def request_ids(self) -> list[str]:
        """Ids of the requests in it."""

    def requests(self) -> Sequence[tuple[str, int, Mapping[str, bool | int | float | str], str]]:
        """Id, rows, parameters and trace of each request in it."""

    def http(self) -> tuple[str, str, str, Headers, str, str, str, bool] | None:
        """The head of the HTTP request that it is, if it is one."""

    def body(self) -> bytes | None:
        """The next piece of the request's body, if it has come."""

    def part(self, outputs: "Sequence[tuple[int, tuple[int, ...], Buffer]]") -> bool:
        """Send a piece of the answer; False if there is no credit for one now."""

    def wait_for_credit(self) -> bool:
        """Wait for credit, without the GIL; False if nobody waits for the answer any more."""

    def finish(self, outputs: "Sequence[tuple[int, tuple[int, ...], Buffer]]") -> None:
        """Answer with outputs."""

    def respond_part(self, head: tuple[int, Headers] | None, body: bytes) -> bool:
        """Send a piece of an HTTP response; False if there is no credit for one now."""

    def respond(self, head: tuple[int, Headers] | None, body: bytes) -> None:
        """Answer with the rest of an HTTP response."""

    def fail(self, class_name: str, message: str, traceback: str, code: str = "") -> None:
        """Answer that user code raised."""

    def refuse_input(self, message: str) -> None:
        """Answer that what a client sent does not fit."""

    def refuse_output(self, message: str) -> None:
        """Answer that user code returned what cannot be sent."""


class Ask(Protocol):
    """A question beside the calls; see `samovar._core.Ask`."""

    @property
    def verb(self) -> str:
        """prepare, describe, load, warm, metrics or unload."""

    @property
    def body(self) -> str:
        """JSON object."""

    def tell(self, ok: bool, body: str) -> None:
        """Answer with a JSON object."""


class Step(Protocol):
    """A call of another model; see `samovar._core.Step`."""

    @property
    def number(self) -> int:
        """Its number, as `Channel.news` has it."""

    def take(self) -> Any:
        """What has come next, or None."""

    def wait(self) -> Any:
        """What comes next, waited for without the GIL."""

    def drop(self) -> None:
        """Nobody waits for it any more."""


class Channel(Protocol):
    """The worker's end of the channel; see `samovar._core.WorkerChannel`."""

    def receive(self) -> Any:
        """Wait for the next Call or Ask; None at the end."""

    def try_receive(self) -> Any:
        """The next Call or Ask, or None."""

    @property
    def ended(self) -> bool:
        """True when the engine wants this worker to end."""

    def fileno(self) -> int:
        """Readable when `try_receive` is worth a call."""

    def news(self) -> list[int]:
        """Numbers of calls and steps for which something has come since the last look."""

    def begin(
        self,
        target: tuple[str, str | None],
        parent: int,
        inputs: "Sequence[tuple[str, int, tuple[int, ...], Buffer]]",
    ) -> Step:
        """Call another model."""
