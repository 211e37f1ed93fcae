"""What the runtimes of model files have in common: description, options, trust, missing packages, the loaded model."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from samovar.errors import ConfigError, OutputError, TargetError, UnsafeFormatError, text_of
from samovar.runtimes import About, Question
from samovar.types import Signature

__all__ = ["FileModel", "check_options", "check_rows", "check_trust", "describe", "imported", "runtime_options"]

Run = Callable[[dict[str, Any]], Mapping[str, Any] | Sequence[Any]]


class FileModel:
    """A model of a file: `run` takes the inputs by name, and gives the outputs by name or in their order."""

    is_async = False
    streams = False
    is_user_code = False
    samples: Callable[[], Any] | None = None

    def __init__(self, signature: Signature, run: Run) -> None:
        self._inputs = [tensor.name for tensor in signature.inputs]
        self._outputs = [tensor.name for tensor in signature.outputs]
        self._has_rows = signature.batch_axis
        self._run = run

    def start(self) -> None:
        """There is nothing left to do."""

    def close(self) -> None:
        """The model ends with its last reference."""

    def predict(self, inputs: Sequence[Any]) -> Any:
        """Run one call; the outputs in the order of the signature.

        Raises OutputError for another number of outputs, and what the framework raises.
        """
        outputs = self._run(dict(zip(self._inputs, inputs, strict=True)))
        if isinstance(outputs, Mapping):
            missing = [name for name in self._outputs if name not in outputs]
            if missing:
                raise OutputError(
                    f'the model returned {", ".join(outputs) or "nothing"}, but no "{missing[0]}"',
                    "declare what it returns as outputs in samovar.toml",
                )
            outputs = [outputs[name] for name in self._outputs]
        if len(outputs) != len(self._outputs):
            raise OutputError(
                f"the model returned {len(outputs)} arrays for {len(self._outputs)} outputs",
                "declare what it returns as outputs in samovar.toml",
            )
        if self._has_rows:
            check_rows(dict(zip(self._outputs, outputs, strict=True)), len(inputs[0]))
        return outputs


def check_rows(outputs: Mapping[str, Any], rows: int) -> None:
    """Raise OutputError for an output that has not a row for each row of the inputs."""
    for name, output in outputs.items():
        shape = getattr(output, "shape", None)
        if shape is not None and tuple(shape[:1]) != (rows,):
            raise OutputError(
                f'output "{name}" has the shape {list(shape)} for {rows} rows of the inputs',
                "if the first axis is not the batch, write batch_axis = false in samovar.toml",
            )


def describe(
    question: Question,
    runtime: str,
    signature: Signature,
    options: dict[str, Any],
    imports: tuple[str, ...],
    **source: Any,
) -> dict[str, Any]:
    """The description of the one model of a file or folder; `source` is what `load` and people want to know besides.

    `read_from` says where the signature is from, `labels` names what stands in an output by its place. Raises
    TargetError or ConfigError for what a file cannot have.
    """
    if question.class_name is not None:
        raise TargetError(
            f"{question.path.name}:{question.class_name} names a class, but {question.path.name} is one model",
            "name the file alone",
        )
    check_options(question.path, options)
    return {
        "name": question.name or question.path.stem,
        "version": question.version or "1",
        "runtime": runtime,
        "source": {"path": str(question.path), "uses": {}, **source},
        **signature.to_json(),
        "streams": False,
        "service": None,
        "options": options,
        "imports": list(imports),
    }


def check_options(path: Path, options: Mapping[str, Any]) -> None:
    """Refuse several calls at a time: a file runs one. Raises ConfigError."""
    if options.get("concurrency", 1) > 1:
        raise ConfigError(
            f"concurrency = {options['concurrency']} is set for {path.name}, which runs one call at a time",
            "use instances to run several copies",
        )


def check_trust(question: Question, kind: str, safe: str) -> None:
    """Raise UnsafeFormatError for a file that can run any code when it is loaded, unless its model is trusted.

    `kind` is what it is ("a Python pickle"), and `safe` how to do without ("save it with skops").
    """
    if not question.declared.trust:
        name = question.name or question.path.stem
        raise UnsafeFormatError(
            f"unsafe_format: {question.path.name} is {kind}, which can run any code when it is loaded",
            f"{safe}; or, if you trust who made it, start with --trust {name}, or write trust = true in samovar.toml",
        )


def imported(module: str, about: About) -> Any:
    """A framework's module. Raises TargetError that names the extra of samovar that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        wanted = f"'samovar[{about.extra}]'" if about.extra else package
        is_absent = error.name is not None and error.name.partition(".")[0] == package
        raise TargetError(
            f"{about.title} need {package}, which cannot be imported: {text_of(error)}",
            f"run: pip install {wanted}",
        ) from (None if is_absent else error)


def runtime_options(question: Question, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What `[models.NAME.runtime_options]` says over these defaults, whose types are those that are wanted.

    A tuple as a default lists the words that are allowed, the first being the default; None is a text that may be left
    out. Raises ConfigError for an unknown name, or another type.
    """
    found = {name: value[0] if isinstance(value, tuple) else value for name, value in defaults.items()}
    for name, value in question.declared.runtime_options.items():
        if name not in defaults:
            known = ", ".join(defaults) or "none"
            raise ConfigError(f'unknown runtime option "{name}" of {question.path.name}', f"its runtime has {known}")
        default = defaults[name]
        if isinstance(default, tuple):
            fits, wanted = value in default, f"one of {', '.join(map(str, default))}"
        else:
            kind = str if default is None else type(default)
            fits, wanted = type(value) is kind or (kind is float and type(value) is int), f"a {kind.__name__}"
        if not fits:
            raise ConfigError(f'runtime option "{name}" of {question.path.name} is {value!r}', f"it wants {wanted}")
        found[name] = value
    return found
