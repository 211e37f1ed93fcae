"""Which models a Python file has, as data; nothing is instantiated."""

import inspect as introspection
from pathlib import Path
from types import ModuleType
from typing import Any

from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError
from samovar.model import Declaration, declaration_of
from samovar.runtimes import Question
from samovar.runtimes.python.importing import import_file
from samovar.runtimes.python.signature import is_async, signature_of

__all__ = ["IMPORTS", "check_concurrency", "find_class", "inspect", "recognise"]


IMPORTS = ("numpy",)
_SAID_BY_ANNOTATIONS = ("inputs", "outputs", "batch_axis")


def recognise(path: Path) -> bool:
    """Python files."""
    return path.suffix == ".py"


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the decorated classes of a file, or one of them. Raises TargetError or ConfigError."""
    path, name = question.path, question.class_name
    module = import_file(path)
    classes = {name: find_class(module, path, name)} if name else _decorated(module)
    if not classes:
        raise TargetError(f"{path.name} has no model: {_found(module)}", _cure_for_none(module))
    _refuse_several(question, classes)
    descriptions = [_describe(question, attribute, cls) for attribute, cls in classes.items()]
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


def _refuse_several(question: Question, classes: dict[str, type]) -> None:
    """A folder has one name to give."""
    if question.name is not None and len(classes) > 1:
        raise TargetError(
            f'{question.path} is model "{question.name}" of its folder, but has {len(classes)}: {", ".join(classes)}',
            "keep one decorated class in it",
        )


def _describe(question: Question, attribute: str, cls: type) -> dict[str, Any]:
    declaration = declaration_of(cls)
    assert isinstance(declaration, Declaration)
    _check_constructor(cls)
    signature = signature_of(cls)
    options = {**declaration.options, **question.declared.options}
    _check_settings(cls, question.declared, options)
    return {
        "name": question.name or declaration.name,
        "version": question.version or declaration.version,
        "runtime": "python",
        "source": {"path": str(question.path), "class": attribute, "is_async": is_async(cls)},
        **signature.to_json(),
        "options": options,
        "imports": list(IMPORTS),
    }


def _check_settings(cls: type, declared: Declared, options: dict[str, Any]) -> None:
    check_concurrency(cls, options.get("concurrency", 1))
    if options.get("threads") is not None:
        raise ConfigError(
            f"threads = {options['threads']} is set for class {cls.__name__}, whose threads are its own",
            "remove it and set them in load (torch.set_num_threads, for instance)",
        )
    for key in _SAID_BY_ANNOTATIONS:
        if getattr(declared, key) is not None:
            raise ConfigError(
                f'samovar.toml sets "{key}" of class {cls.__name__}, whose annotations say it', "remove it from there"
            )


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
