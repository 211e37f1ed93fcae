"""What uses what: the sources that a load needs besides its own, and the model that each handle leads to."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samovar.config.declared import read_declared
from samovar.config.options import close_match
from samovar.control.loads import Description, cause_text
from samovar.errors import TargetError
from samovar.repository.sources import Key, Source, all_sources
from samovar.repository.targets import Target, parse_target

__all__ = ["Known", "cycle", "further_sources", "resolved", "title"]

_Use = Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """Versions that handles may lead to: of this load and of those before it; `failed` has what is not described."""

    models: Mapping[Key, tuple[Source, Mapping[str, Any]]]
    failed: Collection[Description]


def further_sources(models: Iterable[Mapping[str, Any]], sources: Collection[Source]) -> list[Source]:
    """What the models use and none of the `sources` has. A handle that leads nowhere is for `resolved` to refuse."""
    found: list[Source] = []
    for model in models:
        for use in _uses(model).values():
            try:
                target = _target(use)
                needed = target is not None and not any(_has(source, target) for source in [*sources, *found])
                found += all_sources([target]) if target is not None and needed else []
            except TargetError:
                continue
    return found


def resolved(model: Mapping[str, Any], known: Known) -> dict[str, dict[str, Any]]:
    """By attribute what a handle must know: `model`, `version`, `streams`, and the keys of a signature.

    Raises TargetError, with the cure, for a handle that leads to no model.
    """
    return {attribute: _resolved(model, attribute, use, known) for attribute, use in _uses(model).items()}


def cycle(uses: Mapping[str, Collection[str]]) -> list[str]:
    """Names of which each uses the next, the last the first again; empty where there is no such thing."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        found = next((found for other in uses.get(name, ()) if (found := walk(other, [*path, name]))), [])
        done.add(name)
        return found

    return next((found for name in sorted(uses) if (found := walk(name, []))), [])


def title(model: Mapping[str, Any]) -> str:
    """`service "plates"`."""
    return f'{"model" if model["service"] is None else "service"} "{model["name"]}"'


def _uses(model: Mapping[str, Any]) -> Mapping[str, _Use]:
    uses: Mapping[str, _Use] = model["source"].get("uses", {})
    return uses


def _target(use: _Use) -> Target | None:
    """Where a handle's model lies; None for one that is named. Raises TargetError for a path of nothing."""
    if use["kind"] == "name":
        return None
    if use["kind"] == "class":
        return Target(Path(use["path"]), use["class"])
    path = f"{use['path']}:{use['class']}" if use["class"] else use["path"]
    target = parse_target(path, read_declared(use.get("declared", {}), "in samovar.use"))
    if target.kind == "repository":
        raise TargetError(f'folder "{target.path}" is a repository of several models', "name the folder of one")
    return target


def _has(source: Source, target: Target) -> bool:
    """True for a source that has all that the target names."""
    return source.target == target or (_is_at(source, target) and source.class_name in (None, target.class_name))


def _is_at(source: Source, target: Target) -> bool:
    """True for the file, or the folder, of the target."""
    if target.kind == "model":
        return source.folder == target.path
    path = source.path
    return path == target.path or (path.name == target.path.name and path.resolve() == target.path.resolve())


def _resolved(model: Mapping[str, Any], attribute: str, use: _Use, known: Known) -> dict[str, Any]:
    place = f"{title(model)} ({attribute})"
    try:
        target = _target(use)
    except TargetError as error:
        raise TargetError(f"{place} uses what cannot be served: {error.message}", error.next_step) from None
    if target is None:
        return _named(place, use, known)
    versions = dict(_at(target, known.models))
    if not versions:
        raise _unserved(place, target, known.failed)
    if any(known.models[key][0].target.declared != target.declared for key in versions if use.get("declared")):
        raise TargetError(
            f"{place} sets {', '.join(use['declared'])} of {target.path.name}, which is served without or with others",
            "write them into samovar.toml for all, or use the file once, and serve it by no other target",
        )
    names = {name for name, _ in versions}
    if len(names) > 1:
        cure = f"name one with {target.path.name}:Class"
        raise TargetError(f"{place} uses {target}, which has several models: {', '.join(sorted(names))}", cure)
    only = next(iter(versions))[1] if target.kind == "file" else None
    return _bound(place, names.pop(), use["version"] or only, known)


def _at(
    target: Target, models: Mapping[Key, tuple[Source, Mapping[str, Any]]]
) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    """The models that a target names."""
    for key, (source, model) in models.items():
        if _is_at(source, target) and target.class_name in (None, model["source"].get("class")):
            yield key, model


def _unserved(place: str, target: Target, failed: Iterable[Description]) -> TargetError:
    for description in failed:
        if description.cause is not None and _has(description.source, target):
            return TargetError(f"{place} uses {target}, which cannot be served: {cause_text(description.cause)}")
    return TargetError(f"{place} uses {target}, which has no such model", "look at what that file has")


def _named(place: str, use: _Use, known: Known) -> dict[str, Any]:
    """The model of a name, or the method of a service by its name and that of the service."""
    names = {name for name, _ in known.models}
    service, _, method = use["name"].rpartition(".")
    if use["name"] not in names and service in names:
        return _method(place, service, method, use["version"], known)
    if use["name"] not in names:
        raise TargetError(
            f'{place} uses "{use["name"]}", and no target has a model of that name', close_match(use["name"], names)
        )
    return _bound(place, use["name"], use["version"], known)


def _bound(place: str, name: str, version: str | None, known: Known) -> dict[str, Any]:
    model = _version(place, name, version, known)
    if model["service"] is not None:
        methods = [f"{name}.{method['name']}" for method in model["service"]["methods"]]
        cure = (
            f"name a method that takes tensors: {', '.join(methods)}" if methods else "put what both need into a model"
        )
        raise TargetError(f'{place} uses the service "{name}", and services are called by clients alone', cure)
    keys = ("inputs", "outputs", "batch_axis", "streams")
    return {"model": name, "version": version, **{key: model[key] for key in keys}}


def _method(place: str, name: str, method: str, version: str | None, known: Known) -> dict[str, Any]:
    model = _version(place, name, version, known)
    methods = {found["name"]: found for found in (model["service"] or {"methods": ()})["methods"]}
    if method not in methods:
        raise TargetError(
            f'{place} uses "{name}.{method}", and {title(model)} has no such method that takes tensors',
            close_match(method, methods),
        )
    signature = {key: methods[method][key] for key in ("inputs", "outputs")}
    return {"model": f"{name}.{method}", "version": version, **signature, "batch_axis": False, "streams": False}


def _version(place: str, name: str, version: str | None, known: Known) -> Mapping[str, Any]:
    """The description of a version; without one, that of the version which a request without one gets."""
    versions = {key[1]: model for key, (_, model) in known.models.items() if key[0] == name}
    if version is not None and version not in versions:
        raise TargetError(
            f'{place} uses version "{version}" of model "{name}", which no target has',
            f"it has: {', '.join(sorted(versions))}",
        )
    if version is not None:
        return versions[version]
    numbers = [text for text in versions if text.isascii() and text.isdecimal()]
    return versions[max(numbers, key=int) if numbers else "default" if "default" in versions else list(versions)[-1]]
