"""Where settings come from: flag > environment > samovar.toml > (for models) decorator > default."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samovar.config.declared import MODEL_KEYS, Declared, read_declared
from samovar.config.options import SERVER_OPTIONS, check_options, close_match
from samovar.config.settings import OWN_WORKER, ModelConfig, ServerConfig
from samovar.config.values import parsed
from samovar.errors import ConfigError
from samovar.types import check_name

__all__ = ["Configuration", "configure", "is_of_a_model", "read_toml"]

_PREFIX = "SAMOVAR_"
_FILE = "samovar.toml"
_CONFIG_VARIABLE = "SAMOVAR_CONFIG"
# Kubernetes gives these to every pod beside a service named "samovar".
_KUBERNETES = re.compile(r"SAMOVAR_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?)")


@dataclass(frozen=True)
class Configuration:
    """The settings of an engine, and what samovar.toml, which is `file` if there is one, says of models by name."""

    server: ServerConfig
    models: dict[str, Declared] = field(default_factory=dict)
    file: Path | None = None

    def model(self, name: str) -> Declared:
        """What `[models.<name>]` says; nothing where there is no such table."""
        return self.models.get(name, Declared())

    def model_options(
        self, name: str, declared: Mapping[str, Any], *, batch_axis: bool, obstacle: str | None = None
    ) -> dict[str, Any]:
        """The options of a model as the engine reads them; `declared` is what its decorator or file says.

        `obstacle` is why it cannot share a worker, if it cannot. Raises ConfigError where they contradict its
        signature, or the obstacle.
        """
        options = ModelConfig(**{**declared, **self.model(name).options})
        if options.worker is None and obstacle is None:
            options = replace(options, worker=self.server.default_worker)
        if obstacle is not None and options.worker not in (None, OWN_WORKER):
            raise ConfigError(
                f'model "{name}" has worker = "{options.worker}", but {obstacle}',
                f'a shared worker runs one call after another: leave worker out, or write worker = "{OWN_WORKER}"',
            )
        if options.max_memory_bytes is not None and options.worker not in (None, OWN_WORKER):
            raise ConfigError(
                f'model "{name}" has max_memory_bytes = {options.max_memory_bytes}, but shares its worker '
                f'("{options.worker}")',
                f'the limit is that of a process: leave it out, or write worker = "{OWN_WORKER}"',
            )
        if not batch_axis and (options.max_batch_size or 1) > 1:
            raise ConfigError(
                f'model "{name}" has max_batch_size = {options.max_batch_size} but no batch axis',
                'name the first axis of every input and output "batch" (of a model file: batch_axis = true in '
                "samovar.toml), or leave max_batch_size out",
            )
        return options.to_engine(batch_axis=batch_axis)


def configure(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    config: str | Path | None = None,
    folder: Path | None = None,
) -> Configuration:
    """Lay the layers over each other.

    `flags` are option names with texts (from a command line) or values (from Python); None stands for "not given".
    `config` names the file to read instead of samovar.toml in `folder` (the working directory), which is read unless it
    has the keys of a model alone: it is then of the model that lies there.
    Raises ConfigError for an unknown name or a value that does not fit.
    """
    named = config or environment.get(_CONFIG_VARIABLE) or None
    file = _file(named, folder or Path())
    content = {} if file is None else read_toml(file)
    if named is None and is_of_a_model(content):
        file, content = None, {}
    models = {} if file is None else _model_tables(content.pop("models", {}), file)
    given = {name: value for name, value in flags.items() if value is not None}
    _check_names(content, f"in {config or _FILE}")
    _check_names(given, "as an option")
    values = {
        **check_options(content, SERVER_OPTIONS, f"in {config or _FILE}"),
        **_from_environment(environment),
        **check_options(given, SERVER_OPTIONS, "as an option", texts=True),
    }
    return Configuration(ServerConfig(**values), models, None if file is None else file.absolute())


def is_of_a_model(content: Mapping[str, Any]) -> bool:
    """Whether a samovar.toml has keys of a model, and no others; `trust = true` is one, and a list is an engine's."""
    return bool(content) and content.keys() <= set(MODEL_KEYS) and not isinstance(content.get("trust"), list)


def _check_names(names: Iterable[str], where: str) -> None:
    """Raise ConfigError for what is no option of the engine."""
    for name in names:
        if name in MODEL_KEYS and name not in SERVER_OPTIONS:
            raise ConfigError(
                f'setting "{name}" {where} is one of a model, not of the engine',
                "write it below [models.<name>] in samovar.toml",
            )
        if name not in SERVER_OPTIONS:
            raise ConfigError(f'unknown setting "{name}" {where}', close_match(name, [*SERVER_OPTIONS, "models"]))


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a configuration file. Raises ConfigError."""
    import tomllib  # 6 ms that most starts do without

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f'configuration file "{path}" cannot be read: {error.strerror}') from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f'configuration file "{path}" is not UTF-8 at byte {error.start}', "save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f'configuration file "{path}" is no TOML: {error}', "correct that line") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {_PREFIX + name.upper(): name for name in SERVER_OPTIONS}
    values = {}
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or variable == _CONFIG_VARIABLE or _KUBERNETES.fullmatch(variable):
            continue
        if variable not in known:
            raise ConfigError(f'unknown environment variable "{variable}"', close_match(variable, known))
        if text:  # an empty variable counts as unset: shells and compose files cannot always leave one out
            name = known[variable]
            try:
                values[name] = parsed(SERVER_OPTIONS[name], text)
            except ValueError as error:
                raise ConfigError(f"environment variable {variable} is {text!r}", f"it wants {error}") from None
    return values


def _file(config: str | Path | None, folder: Path) -> Path | None:
    path = folder / (config or _FILE)
    if path.is_file():
        return path
    if config:
        raise ConfigError(f'configuration file "{config}" {"is no file" if path.exists() else "does not exist"}')
    return None


def _model_tables(models: Any, path: Path) -> dict[str, Declared]:
    """The keys of each model."""
    if not isinstance(models, dict) or not all(isinstance(table, dict) for table in models.values()):
        raise ConfigError(
            f'"models" in {path} is no table', "write [models.<name>] and the options of that model below"
        )
    for name in models:
        fault = check_name("model", name)
        if fault:
            raise ConfigError(f"{fault} (in {path})")
    return {name: read_declared(table, f"of [models.{name}] in {path}") for name, table in models.items()}
