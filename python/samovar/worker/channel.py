"""What the loop needs of `samovar._core`, so that tests can stand in for the engine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Ask", "Call", "Channel"]


class Call(Protocol):
    """One execution; see `samovar._core.Call`."""

    @property
    def id(self) -> int:
        """Number of the call in this channel."""

    @property
    def instance(self) -> int:
        """The instance it is for."""

    def inputs(self) -> "Sequence[tuple[Buffer, int, tuple[int, ...]]]":
        """Bytes, datatype number and shape of each input."""

    def request_ids(self) -> list[str]:
        """Ids of the requests in it."""

    def finish(self, outputs: "Sequence[tuple[int, tuple[int, ...], Buffer]]") -> None:
        """Answer with outputs."""

    def fail(self, class_name: str, message: str, traceback: str) -> None:
        """Answer that user code raised."""

    def refuse_input(self, message: str) -> None:
        """Answer that what a client sent does not fit."""

    def refuse_output(self, message: str) -> None:
        """Answer that user code returned what cannot be sent."""


class Ask(Protocol):
    """A question beside the calls; see `samovar._core.Ask`."""

    @property
    def verb(self) -> str:
        """prepare, describe, load, metrics or unload."""

    @property
    def body(self) -> str:
        """JSON object."""

    def tell(self, ok: bool, body: str) -> None:
        """Answer with a JSON object."""


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

    def cancelled_calls(self) -> list[int]:
        """Ids of calls cancelled since the last look."""
