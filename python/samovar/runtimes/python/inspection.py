"""Which models a Python file has, as data; nothing is instantiated."""

from pathlib import Path
from typing import Any

from samovar.config.declared import Declared
from samovar.errors import ConfigError, TargetError
from samovar.model import Declaration, declaration_of
from samovar.runtimes import About, Question, Sure
from samovar.runtimes.python.classes import check_constructor, decorated, find_class, none_found
from samovar.runtimes.python.importing import import_file
from samovar.runtimes.python.serving import described_service
from samovar.runtimes.python.signature import is_async, signature_of, streams
from samovar.runtimes.python.uses import described_uses
from samovar.service.declaration import service_declaration_of

__all__ = ["ABOUT", "IMPORTS", "check_concurrency", "described_model", "inspect", "recognise"]


ABOUT = About(
    "Python models",
    extra=None,
    recognised_by="suffix .py",
    signature_from="the annotations of the class",
    safety="the user's own program",
)
IMPORTS = ("numpy",)
_SAID_BY_ANNOTATIONS = ("inputs", "outputs", "batch_axis", "preprocess")


def recognise(path: Path) -> Sure:
    """Python files."""
    return Sure.CERTAIN if path.suffix == ".py" else Sure.NO


def inspect(question: Question) -> list[dict[str, Any]]:
    """Describe the decorated classes of a file, or one of them. Raises TargetError or ConfigError."""
    path, name = question.path, question.class_name
    module = import_file(path)
    classes = {name: find_class(module, path, name)} if name else decorated(module)
    if not classes:
        raise none_found(module, path)
    _refuse_several(question, classes)
    descriptions = [_describe(question, attribute, cls) for attribute, cls in classes.items()]
    _refuse_duplicates(path, descriptions)
    return descriptions


def check_concurrency(cls: type, concurrency: int) -> None:
    """Refuse several calls at a time on a predict that would block all others. Raises TargetError."""
    if concurrency > 1 and not is_async(cls):
        raise TargetError(
            f"class {cls.__name__} has concurrency = {concurrency}, but its predict is not async",
            "write async def predict, or use instances to run several copies",
        )


def _refuse_several(question: Question, classes: dict[str, type]) -> None:
    """A folder has one name to give."""
    if question.name is not None and len(classes) > 1:
        raise TargetError(
            f'{question.path} is model "{question.name}" of its folder, but has {len(classes)}: {", ".join(classes)}',
            "keep one decorated class in it",
        )


def _describe(question: Question, attribute: str, cls: type) -> dict[str, Any]:
    if service_declaration_of(cls) is not None:
        return described_service(question, attribute, cls)
    model = described_model(question, attribute, cls)
    return {**model, "source": {**model["source"], "uses": described_uses(cls)}}


def described_model(question: Question, attribute: str, cls: type) -> dict[str, Any]:
    """The description of a decorated class, called `attribute` in its file, but for what it uses.

    Raises TargetError or ConfigError.
    """
    declaration = declaration_of(cls)
    assert isinstance(declaration, Declaration)
    check_constructor(cls)
    signature = signature_of(cls)
    options = {**declaration.options, **question.declared.options}
    _check_settings(cls, question.declared, options)
    return {
        "name": question.name or declaration.name,
        "version": question.version or declaration.version,
        "runtime": "python",
        "source": {"path": str(question.path), "class": attribute, "is_async": is_async(cls)},
        **signature.to_json(),
        "streams": streams(cls),
        "service": None,
        "options": options,
        "imports": list(IMPORTS),
    }


def _check_settings(cls: type, declared: Declared, options: dict[str, Any]) -> None:
    check_concurrency(cls, options.get("concurrency", 1))
    if streams(cls) and (options.get("max_batch_size") or 1) > 1:
        raise ConfigError(
            f"max_batch_size = {options['max_batch_size']} is set for class {cls.__name__}, whose predict yields",
            "leave it out: what streams runs one request at a time",
        )
    for key in _SAID_BY_ANNOTATIONS:
        if getattr(declared, key) is not None:
            raise ConfigError(
                f'samovar.toml sets "{key}" of class {cls.__name__}, whose annotations say it', "remove it from there"
            )


def _refuse_duplicates(path: Path, descriptions: list[dict[str, Any]]) -> None:
    classes: dict[tuple[str, str], str] = {}
    for description in descriptions:
        key, cls = (description["name"], description["version"]), description["source"]["class"]
        if key in classes:
            raise TargetError(
                f'classes {classes[key]} and {cls} of {path.name} are both "{key[0]}" version "{key[1]}"',
                "rename one with name=... in its decorator",
            )
        classes[key] = cls
