"""The options by name, and the check of a table of them."""

from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from typing import Any

from samovar.config.settings import ModelConfig, ServerConfig
from samovar.config.values import checked, parsed
from samovar.errors import ConfigError

__all__ = ["MODEL_OPTIONS", "SERVER_OPTIONS", "SERVICE_OPTIONS", "check_options", "close_match"]

SERVER_OPTIONS: dict[str, "Field[Any]"] = {option.name: option for option in fields(ServerConfig)}
MODEL_OPTIONS: dict[str, "Field[Any]"] = {option.name: option for option in fields(ModelConfig)}
# A service has no batches and no tensors of its own; whether a request may run twice is said per method.
SERVICE_OPTIONS = {
    name: MODEL_OPTIONS[name]
    for name in (
        "instances",
        "concurrency",
        "load_timeout_s",
        "request_timeout_s",
        "max_request_timeout_s",
        "hard_kill_after_s",
        "max_memory_bytes",
        "max_queue_items",
        "max_queue_bytes",
    )
}


def check_options(
    values: Mapping[str, Any], options: Mapping[str, "Field[Any]"], where: str, *, texts: bool = False
) -> dict[str, Any]:
    """`values` with the types of `options`; with `texts`, a text is read as a command line's would be."""
    fitting = {}
    for name, value in values.items():
        if name not in options:
            raise ConfigError(f'unknown setting "{name}" {where}', close_match(name, options))
        fit = parsed if texts and isinstance(value, str) else checked
        try:
            fitting[name] = fit(options[name], value)
        except ValueError as error:
            raise ConfigError(f'setting "{name}" {where} is {value!r}', f"it wants {error}") from None
    return fitting


def close_match(name: str, known: Iterable[str]) -> str:
    """The cure for a misspelt name."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f'did you mean "{near[0]}"?' if near else f"known are {', '.join(names) or 'none'}"
