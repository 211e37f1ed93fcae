"""Which models a Python file has, as data; nothing is instantiated."""

import inspect as introspection
from pathlib import Path
from types import ModuleType
from typing import Any

from samovar.errors import TargetError
from samovar.model import Declaration, declaration_of
from samovar.runtimes.python.importing import import_file
from samovar.runtimes.python.signature import is_async, signature_of

__all__ = ["check_concurrency", "find_class", "inspect", "recognise"]


def recognise(path: Path) -> bool:
    """Python files."""
    return path.suffix == ".py"


def inspect(path: Path, name: str | None) -> list[dict[str, Any]]:
    """Describe the decorated classes of a file, or the one called `name`. Raises TargetError."""
    module = import_file(path)
    classes = {name: find_class(module, path, name)} if name else _decorated(module)
    if not classes:
        raise TargetError(f"{path.name} has no model: {_found(module)}", _cure_for_none(module))
    descriptions = [_describe(path, attribute, cls) for attribute, cls in classes.items()]
    _refuse_duplicates(path, descriptions)
    return descriptions


def find_class(module: ModuleType, path: Path, name: str) -> type:
    """The decorated class called `name`. Raises TargetError if there is none."""
    found = getattr(module, name, None)
    if found is None:
        known = ", ".join(_decorated(module)) or "none"
        raise TargetError(f'{path.name} has no class "{name}"', f"its models are: {known}")
    if not isinstance(found, type) or declaration_of(found) is None:
        raise TargetError(f'"{name}" in {path.name} is no model', f"write @samovar.model above class {name}")
    return found


def check_concurrency(cls: type, concurrency: int) -> None:
    """Refuse several calls at a time on a predict that would block all others. Raises TargetError."""
    if concurrency > 1 and not is_async(cls):
        raise TargetError(
            f"class {cls.__name__} has concurrency = {concurrency}, but its predict is not async",
            "write async def predict, or use instances to run several copies",
        )


def _own_classes(module: ModuleType) -> dict[str, type]:
    """Classes defined in the file itself, by the first name they have there."""
    classes: dict[type, str] = {}
    for attribute, value in vars(module).items():
        if isinstance(value, type) and value.__module__ == module.__name__:
            classes.setdefault(value, attribute)
    return {attribute: cls for cls, attribute in classes.items()}


def _decorated(module: ModuleType) -> dict[str, type]:
    return {attribute: cls for attribute, cls in _own_classes(module).items() if declaration_of(cls) is not None}


def _describe(path: Path, attribute: str, cls: type) -> dict[str, Any]:
    declaration = declaration_of(cls)
    assert isinstance(declaration, Declaration)
    _check_constructor(cls)
    signature = signature_of(cls)
    check_concurrency(cls, declaration.options.get("concurrency", 1))
    return {
        "name": declaration.name,
        "version": declaration.version,
        "runtime": "python",
        "source": {"path": str(path), "class": attribute, "is_async": is_async(cls)},
        **signature.to_json(),
        "options": declaration.options,
        "imports": ["numpy"],
    }


def _check_constructor(cls: type) -> None:
    try:
        parameters = introspection.signature(cls).parameters.values()
    except (TypeError, ValueError):  # an extension class does not say: its construction will
        return
    empty, variable = (
        introspection.Parameter.empty,
        (introspection.Parameter.VAR_POSITIONAL, introspection.Parameter.VAR_KEYWORD),
    )
    needed = [p.name for p in parameters if p.default is empty and p.kind not in variable]
    if needed:
        raise TargetError(
            f"class {cls.__name__} needs arguments to be made: {', '.join(needed)}",
            "give them defaults, or set them in a load method",
        )


def _refuse_duplicates(path: Path, descriptions: list[dict[str, Any]]) -> None:
    classes: dict[tuple[str, str], str] = {}
    for description in descriptions:
        key, cls = (description["name"], description["version"]), description["source"]["class"]
        if key in classes:
            raise TargetError(
                f'classes {classes[key]} and {cls} of {path.name} are both model "{key[0]}" version "{key[1]}"',
                "rename one with @samovar.model(name=...)",
            )
        classes[key] = cls


def _found(module: ModuleType) -> str:
    names = ", ".join(_own_classes(module))
    return f"its classes are {names}, none of them decorated" if names else "it defines no class"


def _cure_for_none(module: ModuleType) -> str:
    classes = _own_classes(module)
    able = [name for name, cls in classes.items() if hasattr(cls, "predict")] or list(classes)
    return f"write @samovar.model above class {able[0]}" if able else "write @samovar.model above a class with predict"
