"""What packages of models have in common: the file or folder of another format in them is what is inspected and run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samovar.config.declared import Declared, DeclaredTensor
from samovar.errors import TargetError, UnsafeFormatError
from samovar.runtimes import LoadedModel, Question, Runtime, runtime_for, runtime_named
from samovar.runtimes.contents import peek

__all__ = ["first_level", "inspect_part", "load_part", "part_of"]

_INNER = "inner"  # in a source: the runtime that loads it
_SIZE = 65_536


def first_level(path: Path) -> dict[str, str]:
    """Keys of the first level of a YAML file, and what stands behind each in its line: enough to recognise a package.

    Nothing of a file that cannot be read.
    """
    lines = peek(path, _SIZE).decode("utf-8", "replace").splitlines()
    pairs = [line.partition(":") for line in lines if line[:1].isalpha() and ":" in line]
    return {key: value.strip().strip("'\"") for key, _, value in pairs}


def part_of(package: Path, candidates: Sequence[Path]) -> Path | None:
    """The first of these that is in the folder of the package, and of a format that is served; None if none is.

    A link out of the folder, or a path with "..", is not in it, nor is the folder itself.
    """
    folder = package.resolve()
    for path in candidates:
        if path.exists() and folder in path.resolve().parents:
            try:
                runtime_for(path)
            except TargetError:
                continue
            return path
    return None


def inspect_part(
    question: Question, package: str, part: Path, said: Declared, read_from: str, runtime: str | None = None
) -> list[dict[str, Any]]:
    """Describe the model that a package has in `part`; `package` is the runtime of the package itself.

    `said` is what the package says of tensors, in their order: it completes what the part does not say. Raises what
    the part's runtime raises.
    """
    inner = runtime_for(part) if runtime is None else runtime_named(runtime)
    asked = replace(question, path=part, name=question.name or question.path.stem)
    models = _inspected(inner, asked, said)
    return [{**model, "runtime": package, "source": _source(model, read_from)} for model in models]


def load_part(spec: dict[str, Any]) -> LoadedModel:
    """Load what `inspect_part` described, by the runtime of the part. Raises what that raises."""
    return runtime_named(spec["source"][_INNER]).load(spec)


def _source(model: dict[str, Any], read_from: str) -> dict[str, Any]:
    """A package in a package keeps the innermost runtime."""
    source = model["source"]
    known = source.get("read_from")
    return {
        **source,
        _INNER: source.get(_INNER, model["runtime"]),
        "read_from": f"{read_from}: {known}" if known else read_from,
    }


def _inspected(inner: Runtime, question: Question, said: Declared) -> list[dict[str, Any]]:
    """First the part alone, since names and datatypes of its own stand above what somebody wrote of it."""
    try:
        models = inner.inspect(question)
    except UnsafeFormatError:
        raise
    except TargetError:
        if said.inputs is None:
            raise
        return inner.inspect(_with(question, said))
    missing = Declared(
        inputs=_missing(models[0]["inputs"], said.inputs), outputs=_missing(models[0]["outputs"], said.outputs)
    )
    return inner.inspect(_with(question, missing)) if missing.inputs or missing.outputs else models


def _with(question: Question, said: Declared) -> Question:
    return replace(question, declared=question.declared.over(said))


def _missing(found: list[dict[str, Any]], said: tuple[DeclaredTensor, ...] | None) -> tuple[DeclaredTensor, ...] | None:
    """What is said of the tensors that lack something: by name, or by their order where the names are others."""
    if said is None or len(said) != len(found):
        return None
    by_name = {tensor.name: tensor for tensor in said}
    if set(by_name) == {tensor["name"] for tensor in found}:
        said = tuple(by_name[tensor["name"]] for tensor in found)
    missing = [
        DeclaredTensor(
            tensor["name"],
            known.datatype if tensor["datatype"] is None else None,
            known.shape if tensor["dims"] is None else None,
        )
        for tensor, known in zip(found, said, strict=True)
    ]
    return tuple(tensor for tensor in missing if tensor.datatype or tensor.shape) or None
