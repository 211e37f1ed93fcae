"""All that is known of one version, for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from samovar.cli.output import columns, text
from samovar.cli.signatures import batching, is_described, is_service, preprocess_text, signature, uses_text
from samovar.config.options import SERVICE_OPTIONS

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["describe", "evidence"]

_TRACEBACK_LINES = 12
_STDERR_LINES = 10


def describe(version: Mapping[str, Any], now: float) -> "list[RenderableType]":
    """Parts to print: cause, facts, signature, history; only those that are known. `now` is Unix time."""
    parts: list[RenderableType] = []
    if version["cause"]:
        parts += [text(line) for line in _cause(version["cause"])]
    facts = _facts(version)
    if facts:
        parts.append(columns((), facts))
    if is_described(version) and not is_service(version):
        parts += ["", signature(version)]
    if version.get("events"):
        history = [(_age(now - event["time"]), event["state"], event["message"]) for event in version["events"]]
        parts += ["", columns(("history", "", ""), history)]
    return parts


def evidence(cause: Mapping[str, Any]) -> list[str]:
    """What a failure left behind: the end of its traceback, the worker's last lines."""
    lines = []
    traceback = (cause.get("traceback") or "").splitlines()
    if traceback:
        lines += ["traceback:" if len(traceback) <= _TRACEBACK_LINES else "traceback, its end:"]
        lines += [f"  {line}" for line in traceback[-_TRACEBACK_LINES:]]
    if cause.get("stderr"):
        lines += ["last lines of its worker:", *(f"  {line}" for line in cause["stderr"][-_STDERR_LINES:])]
    return lines


def _cause(cause: Mapping[str, Any]) -> list[str]:
    cure = [f"cure: {cause['next_step']}"] if cause.get("next_step") else []
    return [cause["message"], *cure, *evidence(cause)]


def _facts(version: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "platform" in version:
        return [("platform", version["platform"])]
    if "options" not in version or not is_described(version):
        return []
    processes = [_place(instance) for instance in version["instances"]]
    known = SERVICE_OPTIONS if is_service(version) else version["options"]
    options = [f"{key}={_plain(value)}" for key, value in version["options"].items() if key in known]
    source = version["source"]
    place = ":".join(str(source[key]) for key in ("path", "class") if source.get(key))
    batches = [] if is_service(version) else [("batching", batching(version["options"], version["batch_axis"]))]
    return [
        ("runtime", version["runtime"]),
        ("source", place),
        *([("trusted", "its file may run code when it is loaded")] if source.get("trusted") else []),
        *([("read from", source["read_from"])] if source.get("read_from") else []),
        *([("images", preprocess_text(source["preprocess"]))] if source.get("preprocess") else []),
        *([("uses", uses_text(source))] if source.get("uses") else []),
        *batches,
        ("instances", ", ".join(processes) or "none alive"),
        ("options", " ".join(options)),
    ]


def _place(instance: Mapping[str, Any]) -> str:
    worker = f", worker {instance['worker']}" if instance["worker"] else ""
    return f"{instance['index']} (pid {instance['pid']}{worker})"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.1f} s ago" if seconds < 10 else f"{seconds:.0f} s ago"
