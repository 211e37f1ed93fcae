"""What is served, where, and how to call it: the words at the end of a start."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samovar.config import ServerConfig, machine
from samovar.control.console import Style, printable
from samovar.control.example import curl_line, infer_line, service_line
from samovar.control.loads import Fault, cause_text
from samovar.repository.sources import Key

__all__ = ["Introduction", "failure_lines", "place", "url"]

_SHOWN_LINES = 10
_SHOWN_ROUTES = 4


@dataclass(frozen=True)
class Introduction:
    """What a start has led to.

    `versions` are the engine's, `unlisted` the sources that failed and stand under no name; `specifications` and
    `seconds`, the time of the load, are known of those that were described.
    """

    settings: ServerConfig
    addresses: Mapping[str, Any]
    versions: Sequence[dict[str, Any]]
    unlisted: Sequence[Fault]
    specifications: Mapping[Key, dict[str, Any]]
    seconds: Mapping[Key, float]
    style: Style

    def lines(self) -> list[str]:
        """Nothing where every model has failed."""
        serving = [version for version in self.versions if version["state"] != "failed"]
        if not serving and self.versions:
            return []
        http = self.addresses["http"]
        count = f"{len(serving)} of {len(self.versions) + len(self.unlisted)}"
        has_services = any(specification["service"] for specification in self.specifications.values())
        lines = [f"samovar serves {count} models{' and services' if has_services else ''} at {place(http)}"]
        for version in self.versions:
            lines += self._version(version)
        for source, cause in self.unlisted:
            lines += failure_lines(f"{source} failed", cause, self.style)
        lines += [*self._doors(), *self._exposure()]
        if not serving:
            return [*lines, "  put models into its folders and load them by name"]
        known = [self.specifications[key] for key in map(_key, serving) if key in self.specifications]
        services = [specification for specification in known if specification["service"] is not None]
        first = [*services, *known][:1]  # who has written a service wants it called
        return [*lines, *(["try:"] if first else []), *(f"  {line}" for one in first for line in self._examples(one))]

    def _version(self, version: dict[str, Any]) -> list[str]:
        """How a version is, and how it batches or what to do about its failure."""
        words = f"{self.style.name(version['name'])} (version {version['version']})"
        if version["state"] == "failed":
            return failure_lines(f"{words} failed", version["cause"] or {}, self.style)
        mark = f"{self.style.good()} " if self.style.is_terminal else ""
        return [f"  {mark}{words} {', '.join([version['state'] + self._duration(version), *self._ways(version)])}"]

    def _duration(self, version: dict[str, Any]) -> str:
        seconds = self.seconds.get(_key(version))
        return f" in {seconds:.1f} s" if self.style.is_terminal and seconds is not None else ""

    def _ways(self, version: dict[str, Any]) -> list[str]:
        specification = self.specifications.get(_key(version))
        if specification is None:
            return []
        if specification["service"] is not None:
            return self._addresses(specification)
        return [*([specification["runtime"]] if self.style.is_terminal else []), _batching(specification)]

    def _addresses(self, specification: dict[str, Any]) -> list[str]:
        """Where a service answers, and where its documentation is."""
        service = specification["service"]
        routes = [f"{'|'.join(route['methods'])} {route['path']}" for route in service["routes"]]
        routes += [f"all below {mount}" for mount in service["mounts"][1:]]
        more = [f"{len(routes) - _SHOWN_ROUTES} more"] if len(routes) > _SHOWN_ROUTES else []
        docs = f"docs at {url(self.addresses['http'])}/{specification['name']}/docs"
        return ["service", *routes[:_SHOWN_ROUTES], *more, docs]

    def _doors(self) -> list[str]:
        """The doors besides HTTP."""
        grpc, admin = self.addresses.get("grpc"), self.addresses.get("admin")
        places = [f"gRPC at {_authority(grpc)}"] if grpc else []
        places += [f"admin socket {admin}"] if admin else []
        return [f"  {', '.join(places)}"] if places else []

    def _exposure(self) -> list[str]:
        if self.settings.is_loopback:
            return []
        extent = "call, load and unload" if self.settings.control == "explicit" else "call"
        return [f"  exposed: whoever reaches {self.settings.host} can {extent} every model, without a password"]

    def _examples(self, specification: dict[str, Any]) -> list[str]:
        """Commands that work as they stand; but for a service's files, inputs need not be made first."""
        http = self.addresses["http"]
        if specification["service"] is not None:
            return [service_line(specification, url(http), http["path"])]
        curl = curl_line(specification, url(http), http["path"])
        infer = infer_line(specification)
        admin = self.addresses.get("admin")
        if not admin or "=@" in infer:
            return [curl]
        is_found = Path(admin).parent == machine.admin_folder()
        return [infer if is_found else f"{infer} --engine {shlex.quote(admin)}", curl]


def failure_lines(what: str, cause: dict[str, Any], style: Style) -> list[str]:
    """A failure in one line; on a terminal the next step and the last lines of the worker stand below."""
    if not style.is_terminal:
        return [f"  {what}: {cause_text(cause)}"]
    lines = [f"  {style.bad()} {what}: {printable(str(cause.get('message') or 'unknown'))}"]
    if cause.get("next_step"):
        lines.append(f"      {printable(cause['next_step'])}")
    written = (cause.get("stderr") or [])[-_SHOWN_LINES:]
    return [*lines, *(f"      {style.aside(printable(line))}" for line in written)]


def _batching(specification: dict[str, Any]) -> str:
    options = specification["options"]
    if specification["batch_axis"]:
        rows = options["max_batch_size"]
        return f"batches of up to {rows} rows" if rows > 1 else "one row at a time (max_batch_size is 1)"
    calls = options["instances"] * options["concurrency"]
    requests = "one request" if calls == 1 else f"{calls} requests"
    if specification["streams"]:
        return f"streams, {requests} at a time"
    return f"no batch axis: {requests} at a time ({_way_to_batch(specification)})"


def _way_to_batch(specification: dict[str, Any]) -> str:
    if specification["runtime"] == "python":
        return "name the first axis `batch` to batch"
    tensors = [*specification["inputs"], *specification["outputs"]]
    if any(tensor["datatype"] is None or tensor["dims"] is None for tensor in tensors):
        return "declare datatypes and shapes in samovar.toml to batch"
    return "batch_axis = true in samovar.toml says that it has one"


def _key(version: dict[str, Any]) -> Key:
    return version["name"], version["version"]


def place(http: Mapping[str, Any]) -> str:
    """Where the HTTP door is: its URL, or `unix:/path`."""
    return f"unix:{http['path']}" if http["path"] is not None else url(http)


def url(http: Mapping[str, Any]) -> str:
    """The address of the HTTP door as this machine reaches it."""
    return "http://localhost" if http["path"] is not None else f"http://{_authority(http)}"


def _authority(door: Mapping[str, Any]) -> str:
    """Host and port as this machine reaches them."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(door["host"], door["host"])  # noqa: S104 - what was bound
    return f"[{host}]:{door['port']}" if ":" in host else f"{host}:{door['port']}"
