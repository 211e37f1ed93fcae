"""What samovar.toml says of a source: the engine's own file, above the one that lies beside the model.

Between the two stands what Python says that names the file: `samovar.use` and `samovar.load`.

Beside the file `dir/net.pt` that is `dir/samovar.toml`, with the keys of a model or with `[models.net]`; in a
repository `<model>/samovar.toml`, with the keys of that model. A model that is a folder may have one inside besides,
which stands below and cannot say that the model is trusted. All are read at every load.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from samovar.config import OWN_WORKER, Configuration
from samovar.config.declared import MODEL_KEYS, Declared, check_service_options, read_declared
from samovar.config.layers import is_of_a_model, read_toml
from samovar.config.options import SERVER_OPTIONS
from samovar.errors import ConfigError
from samovar.repository.folders import CONFIG, TRITON_CONFIG
from samovar.repository.sources import Source
from samovar.runtimes import Question

__all__ = ["is_passing", "notes", "options_of", "question_of"]

_NOT_OF_A_PROGRAM = ("inputs", "outputs", "batch_axis", "runtime", "preprocess", "trust")
_EVERY = "*"


def question_of(source: Source, configuration: Configuration) -> Question:
    """What a worker is asked about a source. Raises ConfigError for a samovar.toml that does not fit."""
    if source.name is None:
        return Question(source.path, source.class_name)  # what its models are called is not known yet
    beside = _beside(source, configuration).over(_inside(source, configuration))
    declared = configuration.model(source.name).over(source.target.declared).over(beside)
    if not {source.name, _EVERY}.isdisjoint(configuration.server.trust):
        declared = replace(declared, trust=True)
    return Question(source.path, source.class_name, source.name, source.version, declared)


def options_of(source: Source, model: dict[str, Any], configuration: Configuration) -> dict[str, Any]:
    """The options of a described model as the engine reads them. Raises ConfigError where they contradict it."""
    declared = configuration.model(model["name"])
    if model["service"] is not None:
        check_service_options(f"of [models.{model['name']}]", declared)
    elif source.name is None:
        _check_program(model["name"], declared)
    return configuration.model_options(
        model["name"], model["options"], batch_axis=model["batch_axis"], obstacle=_obstacle(model)
    )


def is_passing(question: Question, configuration: Configuration) -> bool:
    """True if the models of a source will not have workers of their own: who describes them need not stay."""
    worker = question.declared.options.get("worker") or configuration.server.default_worker
    return bool(worker != OWN_WORKER)


def notes(source: Source, configuration: Configuration) -> list[str]:
    """What lies beside a source and is not read, for the log."""
    found = []
    beside = source.path.parent / CONFIG
    if source.name is None and beside.is_file() and is_of_a_model(read_toml(beside)):
        found.append(f"{beside} is of a model file and not read; what it says of a program belongs below [models.NAME]")
    file = _file(source, configuration)
    if file is not None and _is_of_an_engine(read_toml(file)):
        found.append(f"{file} has settings of an engine and is not read; name it with --config, or start in its folder")
    if source.folder is not None and (source.folder / TRITON_CONFIG).is_file():
        found.append(f"{source.folder / TRITON_CONFIG} is not read; what it says belongs into {CONFIG} beside it")
    return found


def _beside(source: Source, configuration: Configuration) -> Declared:
    file = _file(source, configuration)
    content = {} if file is None else read_toml(file)
    if file is None or _is_of_an_engine(content):
        return Declared()
    if source.folder is None and "models" in content:
        return _table_of(source, content, file)
    if "models" in content:
        raise ConfigError(f'"models" in {file} names models', "write the keys of this one at the top of that file")
    return read_declared(content, f"in {file}")


def _inside(source: Source, configuration: Configuration) -> Declared:
    """What a model's own folder says; whom to trust is not for what comes with the model to say."""
    file = source.path / CONFIG
    if not file.is_file() or file == _file(source, configuration) or _is_own(file, configuration):
        return Declared()
    return replace(read_declared(read_toml(file), f"in {file}"), trust=None)


def _table_of(source: Source, content: dict[str, Any], file: Path) -> Declared:
    """`[models.<name>]` of a file that may be there for several models."""
    others = [key for key in content if key != "models"]
    if others:
        raise ConfigError(
            f'setting "{others[0]}" in {file} stands beside [models]', "move it into the table of its model"
        )
    tables = content["models"]
    table = tables.get(source.name, {}) if isinstance(tables, dict) else None
    if not isinstance(table, dict):
        raise ConfigError(f'"models" in {file} is no table', f"write [models.{source.name}] and its keys below")
    return read_declared(table, f"of [models.{source.name}] in {file}")


def _file(source: Source, configuration: Configuration) -> Path | None:
    """The samovar.toml beside a source, unless that is the engine's own; a program says these things itself."""
    if source.name is None:
        return None
    file = (source.folder or source.path.parent) / CONFIG
    return None if not file.is_file() or _is_own(file, configuration) else file


def _is_own(file: Path, configuration: Configuration) -> bool:
    return configuration.file is not None and configuration.file.samefile(file)


def _is_of_an_engine(content: dict[str, Any]) -> bool:
    """A file for another start of the engine may lie beside a model; models have `trust = true`, engines a list."""
    return any(
        key in SERVER_OPTIONS and (key not in MODEL_KEYS or isinstance(value, list)) for key, value in content.items()
    )


def _obstacle(model: dict[str, Any]) -> str | None:
    """Why a described model cannot share a worker, whose one thread a call has for itself; None where it can."""
    if model["service"] is not None:
        return "it is a service"
    if model["source"].get("is_async"):
        return "its predict is async"
    if model["streams"]:
        return "its predict yields"
    return "it calls other models" if model["source"].get("uses") else None


def _check_program(name: str, declared: Declared) -> None:
    """A class says in its annotations what a model file may leave open."""
    said = [key for key in _NOT_OF_A_PROGRAM if getattr(declared, key) is not None]
    if said:
        raise ConfigError(
            f'[models.{name}] sets "{said[0]}", but the model is a Python class', "remove it: the class itself says it"
        )
