"""What can go wrong, as a tree of exceptions.

SamovarError
├── ConfigError     a setting: its name is unknown or its value does not fit
├── TargetError     a file or class that cannot be served as it stands
│   └── UnsafeFormatError   a file that can run code when it is loaded, and is not trusted
├── LoadError       user code raised while a model was loaded or unloaded
├── InputError      what a caller gives cannot be sent
├── InvalidInputError   what a client sent is none that the model takes: for `predict` to raise
├── OutputError     a model returned what cannot be sent
├── StepError       a call of another model failed
├── ServerError     the engine did not start, stop or answer as it should
│   └── UnreachableError    no engine answers at an address
└── RequestError    the engine refused a request, or the model failed on it
"""

from pathlib import Path
from typing import Any

__all__ = [
    "ConfigError",
    "InputError",
    "InvalidInputError",
    "LoadError",
    "OutputError",
    "RequestError",
    "SamovarError",
    "ServerError",
    "StepError",
    "TargetError",
    "UnreachableError",
    "UnsafeFormatError",
]

_PACKAGE = str(Path(__file__).parent)
_MESSAGE_CHARACTERS = 4_096
_TRACEBACK_CHARACTERS = 32_768


class SamovarError(Exception):
    """Everything that this package raises on purpose.

    `message` states the fault, `next_step` the cure; an empty one means that the message says it all.
    """

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message, next_step)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}; {self.next_step}" if self.next_step else self.message


class ConfigError(SamovarError):
    """A setting has an unknown name or a value that does not fit."""


class TargetError(SamovarError):
    """A file or class cannot be served as it stands."""


class UnsafeFormatError(TargetError):
    """A file can run code when it is loaded, and nobody has said that it is trusted."""


class LoadError(SamovarError):
    """User code raised while a model was loaded or unloaded; the cause is chained."""


class InputError(SamovarError):
    """What a caller gives cannot be sent."""


class InvalidInputError(SamovarError):
    """What a client sent is none that the model takes.

    Raised in `predict`, it is the client's fault (HTTP 400, `invalid_input`) and not the model's (500): the client
    reads its text.
    """


class OutputError(SamovarError):
    """A model returned what cannot be sent."""


class StepError(SamovarError):
    """A call of another model failed: a step of what a service, or a model that uses others, does.

    `model` is what was called, `code` the stable name of the fault, as in the errors that clients read.
    """

    def __init__(self, message: str, model: str, code: str) -> None:
        super().__init__(f"step {model}.predict: {message}")
        self.args = (message, model, code)  # what pickle and copy call the constructor with
        self.model = model
        self.code = code


class ServerError(SamovarError):
    """The engine did not start, stop or answer as it should."""


class UnreachableError(ServerError):
    """No engine answers at an address."""


class RequestError(SamovarError):
    """The engine answered with an error; `status` is the HTTP status, `code` the stable name of the fault."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.args = (message, status, code)  # what pickle and copy call the constructor with
        self.status = status
        self.code = code


def describe_failure(error: BaseException) -> dict[str, str | None]:
    """`error` as the engine wants it: keys `message`, `exception`, `traceback`, `next_step`.

    For an error of this package, exception and traceback are those of its cause: the user's code.
    """
    if not isinstance(error, SamovarError):
        return {
            "message": text_of(error),
            "exception": type(error).__name__,
            "traceback": user_traceback(error),
            "next_step": "",
        }
    cause = error.__cause__
    return {
        "message": error.message,
        "exception": None if cause is None else type(cause).__name__,
        "traceback": "" if cause is None else user_traceback(cause),
        "next_step": error.next_step,
    }


def text_of(error: BaseException) -> str:
    """The text of an exception, bounded, also where its own `__str__` raises."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - user code: any exception class may have a broken __str__
        return "(its text cannot be shown)"
    return _sendable(text if len(text) <= _MESSAGE_CHARACTERS else text[:_MESSAGE_CHARACTERS] + "…")


def user_traceback(error: BaseException) -> str:
    """The traceback of `error` without the frames of this package and the import machinery; the end of a long one."""
    import traceback

    try:
        report = traceback.TracebackException.from_exception(error, compact=True)
        _trim(report)
        text = "".join(report.format())
    except Exception:  # noqa: BLE001 - user code: a broken __str__ or __repr__ must not hide the failure
        return ""
    return _sendable(text if len(text) <= _TRACEBACK_CHARACTERS else "…" + text[-_TRACEBACK_CHARACTERS:])


def _sendable(text: str) -> str:
    """`text` with what UTF-8 cannot carry (half of a surrogate pair) written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _trim(report: Any) -> None:
    """Drop foreign frames here and in every exception that led here."""
    pending = [report]
    while pending:
        current = pending.pop()
        current.stack[:] = [frame for frame in current.stack if not is_ours(frame.filename)]
        pending += [
            other
            for other in (current.__cause__, current.__context__, *(current.exceptions or ()))
            if other is not None
        ]


def is_ours(filename: str) -> bool:
    """True for a file of this package, or of the import machinery: not where a user's fault is."""
    return filename.startswith((_PACKAGE, "<frozen importlib"))
