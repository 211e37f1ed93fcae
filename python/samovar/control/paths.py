"""Paths that services answer: no two services may claim the same."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from samovar.control.uses import title
from samovar.errors import TargetError

__all__ = ["shared_path"]

_Model = Mapping[str, Any]


def shared_path(models: Iterable[_Model]) -> TargetError | None:
    """The error that names two services with the same path, if there are such; versions of one service share theirs."""
    claimed: dict[tuple[str, str], _Model] = {}
    for model in models:
        for claim in _claims(model):
            other = claimed.setdefault(claim, model)
            if other["name"] != model["name"]:
                return _shared(claim, other, model)
    return None


def _claims(model: _Model) -> Iterator[tuple[str, str]]:
    """Method and path of each route, whatever its parameters are called; of what is mounted the path alone."""
    service = model["service"]
    if service is None:
        return
    for route in service["routes"]:
        path = "/".join("{}" if segment.startswith("{") else segment for segment in route["path"].split("/"))
        yield from ((method, path) for method in route["methods"] if method != "HEAD")  # with its GET
    yield from (("", path) for path in service["mounts"])


def _shared(claim: tuple[str, str], one: _Model, other: _Model) -> TargetError:
    method, path = claim
    if not method:
        return TargetError(f"{title(one)} and {title(other)} both have all below {path}", "mount one at another path")
    return TargetError(
        f"{title(one)} and {title(other)} both answer {method} {path}",
        "give one of them another path with @samovar.api(path=...)",
    )
