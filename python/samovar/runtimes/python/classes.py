"""The decorated classes of a file: models and services."""

import inspect
from pathlib import Path
from types import ModuleType

from samovar.errors import TargetError
from samovar.model import declaration_of
from samovar.service.declaration import service_declaration_of

__all__ = ["check_constructor", "decorated", "find_class", "find_model", "find_service", "none_found"]


def decorated(module: ModuleType) -> dict[str, type]:
    """Those defined in the file itself, by name."""
    return {attribute: cls for attribute, cls in _own_classes(module).items() if _is_decorated(cls)}


def find_class(module: ModuleType, path: Path, name: str) -> type:
    """The decorated class called `name`. Raises TargetError if there is none."""
    found = getattr(module, name, None)
    if found is None:
        known = ", ".join(decorated(module)) or "none"
        raise TargetError(f'{path.name} has no class "{name}"', f"its models and services are: {known}")
    if not isinstance(found, type) or not _is_decorated(found):
        raise TargetError(
            f'"{name}" in {path.name} is neither model nor service',
            f"write @samovar.model or @samovar.service above class {name}",
        )
    return found


def find_model(module: ModuleType, path: Path, name: str) -> type:
    """The class called `name`, which is a model. Raises TargetError."""
    found = find_class(module, path, name)
    if declaration_of(found) is None:
        raise TargetError(f"{path.name} has changed: {name} is a model no more", "load it again")
    return found


def find_service(module: ModuleType, path: Path, name: str) -> type:
    """The class called `name`, which is a service. Raises TargetError."""
    found = find_class(module, path, name)
    if service_declaration_of(found) is None:
        raise TargetError(f"{path.name} has changed: {name} is a service no more", "load it again")
    return found


def none_found(module: ModuleType, path: Path) -> TargetError:
    """The error for a file without decorated classes, with the line to write."""
    classes = _own_classes(module)
    found = f"its classes are {', '.join(classes)}, none of them decorated" if classes else "it defines no class"
    able = [name for name, cls in classes.items() if hasattr(cls, "predict")] or list(classes)
    cure = f"above class {able[0]}" if able else "above a class with predict"
    return TargetError(f"{path.name} has no model: {found}", f"write @samovar.model {cure}")


def check_constructor(cls: type) -> None:
    """Refuse a class that cannot be made without arguments. Raises TargetError."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):  # an extension class does not say: its construction will
        return
    empty, variable = (
        inspect.Parameter.empty,
        (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD),
    )
    needed = [p.name for p in parameters if p.default is empty and p.kind not in variable]
    if needed:
        raise TargetError(
            f"class {cls.__name__} needs arguments to be made: {', '.join(needed)}",
            "give them defaults, or set them in a load method",
        )


def _is_decorated(cls: type) -> bool:
    return declaration_of(cls) is not None or service_declaration_of(cls) is not None


def _own_classes(module: ModuleType) -> dict[str, type]:
    """Classes defined in the file itself, by the first name they have there."""
    classes: dict[type, str] = {}
    for attribute, value in vars(module).items():
        if isinstance(value, type) and value.__module__ == module.__name__:
            classes.setdefault(value, attribute)
    return {attribute: cls for cls, attribute in classes.items()}
