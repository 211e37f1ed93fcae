"""From what went wrong to what the client reads: `{"error": text, "code": slug, "id": request id}`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json, to_json
from starlette.exceptions import HTTPException

from samovar.errors import InvalidInputError, OutputError, StepError, text_of, user_traceback
from samovar.service.refusals import InvalidFields, Refusal

__all__ = ["STATUSES", "Fault", "fault_of", "quoted", "told"]

QUOTED_BYTES = 256
_MOST_DETAILS = 100
# The codes that a service can answer, with the numbers of `crates/server/src/http/error.rs`: a test compares them.
STATUSES = {
    "invalid_request": 400,
    "invalid_input": 400,
    "unknown_output": 400,
    "invalid_name": 400,
    "forbidden_origin": 403,
    "control_disabled": 403,
    "unknown_model": 404,
    "unknown_version": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "payload_too_large": 413,
    "uri_too_long": 414,
    "unsupported_media_type": 415,
    "forbidden_host": 421,
    "queue_full": 429,
    "overloaded": 429,
    "cancelled": 499,
    "call_cycle": 500,
    "model_error": 500,
    "bad_model_output": 500,
    "poison_item": 500,
    "load_failed": 500,
    "internal": 500,
    "not_ready": 503,
    "model_failed": 503,
    "shutting_down": 503,
    "worker_lost": 503,
    "deadline_exceeded": 504,
}
# Those that pass; what a lost worker ran, for one, may not run again.
_BUSY = ("queue_full", "overloaded", "not_ready", "shutting_down")
# The code that stands for a status which a program chose itself.
_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    413: "payload_too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    422: "invalid_input",
    429: "overloaded",
    503: "not_ready",
    504: "deadline_exceeded",
}


@dataclass(frozen=True)
class Fault:
    """An answer that says what went wrong; `detail` is FastAPI's list, or what an HTTPException carries."""

    status: int
    code: str
    text: str
    detail: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        """The JSON that the client reads."""
        table: dict[str, Any] = {"error": self.text, "code": self.code, "id": request_id}
        if self.detail is not None:
            table["detail"] = self.detail
        return to_json(table, fallback=repr, inf_nan_mode="null")


def fault_of(error: Exception, place: str, request_id: str, *, expose: bool) -> Fault:
    """What a client is told of an error; that of a program is written to the log whole.

    `place` is the method, `Plates.recognize`; without `expose` the client learns nothing of the program's own errors.
    """
    if isinstance(error, InvalidFields):
        details = [_detail(detail) for detail in error.details[:_MOST_DETAILS]]
        return Fault(422, "invalid_input", told(error.details), details)
    if isinstance(error, Refusal):
        return _of_code(error.code, str(error))
    if isinstance(error, InvalidInputError):
        return _of_code("invalid_input", quoted(text_of(error)))
    if isinstance(error, StepError):
        return _of_code(error.code if error.code in STATUSES else "internal", text_of(error))
    if isinstance(error, HTTPException):
        return _of_http(error)
    _log(error, place, request_id)
    if isinstance(error, OutputError):
        return _of_code("bad_model_output", f"{place}: {text_of(error)}")
    if not expose:
        return _of_code("model_error", f"{place} raised an exception; the log has it under the id of this request")
    return _of_code("model_error", f"{place} raised {quoted(f'{type(error).__name__}: {text_of(error)}')}")


def quoted(text: str) -> str:
    """At most 256 bytes of what may be a client's; what cannot be seen is escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:QUOTED_BYTES])
    cut = shown.encode("utf-8", "replace")[:QUOTED_BYTES].decode("utf-8", "ignore")
    return cut if len(cut) == len(shown) and len(text) <= QUOTED_BYTES else cut + "…"


def _of_code(code: str, text: str) -> Fault:
    return Fault(STATUSES[code], code, text, headers={"retry-after": "1"} if code in _BUSY else {})


def _of_http(error: HTTPException) -> Fault:
    status = error.status_code
    code = _CODES.get(status) or ("invalid_request" if status < 500 else "model_error")
    if isinstance(error.detail, str):
        return Fault(status, code, error.detail, headers=error.headers or {})
    return Fault(status, code, f"status {status}", error.detail, error.headers or {})


def _log(error: Exception, place: str, request_id: str) -> None:
    """The whole of it, for whoever runs the service."""
    sys.stderr.write(f"{place} failed on request {request_id or '(unnamed)'}\n{user_traceback(error)}")


def _detail(detail: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of FastAPI's list, with at most 256 bytes of what was sent."""
    sent = to_json(detail["input"], fallback=repr, inf_nan_mode="null", bytes_mode="base64")
    shown = from_json(sent) if len(sent) <= QUOTED_BYTES else quoted(sent.decode("utf-8", "replace"))
    return {**detail, "input": shown}


def told(details: Sequence[Mapping[str, Any]]) -> str:
    """The first of what does not fit: the field, what was got, what was wanted."""
    detail = details[0]
    more = f" (and {len(details) - 1} more: see detail)" if len(details) > 1 else ""
    source, *path = detail["loc"]
    name = quoted(".".join(map(str, path)))
    field_name = f'{source}: field "{name}"' if path else source
    if detail["type"] == "missing":
        return f"{field_name} is missing; send it{more}"
    if detail["type"] == "extra_forbidden":
        return f"{field_name} is unknown; leave it out{more}"
    wanted = detail["msg"][:1].lower() + detail["msg"][1:]
    return f"{field_name}: got {_got(detail['input'])}; {quoted(wanted)}{more}"


def _got(value: Any) -> str:
    """What was sent as people read it; of a file that is none its size."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return quoted(to_json(value, fallback=repr, inf_nan_mode="null", bytes_mode="base64").decode())
