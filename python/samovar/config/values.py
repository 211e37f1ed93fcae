"""From a text or a TOML value to the value of an option, or the reason why it does not fit."""

import math
import types
from collections.abc import Callable
from dataclasses import Field
from typing import Any, Literal, Union, get_args, get_origin

from samovar.types import check_name

__all__ = ["checked", "parsed", "wanted"]

# Also what keeps a number inside Rust's integers and durations.
_MAX_INT = 1 << 62
_MAX_FLOAT = 1e9
_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def checked(option: "Field[Any]", value: Any) -> Any:
    """`value`, from TOML or Python, as the option's type. Raises ValueError with what is wanted."""
    for kind in _alternatives(option.type):
        fitting = _fit(kind, value)
        if fitting is not None and _in_range(option, fitting) and _is_name(option, fitting):
            return fitting
    if value is None and types.NoneType in _alternatives(option.type):
        return None
    raise ValueError(wanted(option))


def parsed(option: "Field[Any]", text: str) -> Any:
    """The value that `text`, from the environment or a command line, stands for. Raises ValueError as `checked`."""
    for kind in _alternatives(option.type):
        value = _read(kind, text.strip())
        if value is not None:
            return checked(option, value)
    raise ValueError(wanted(option))


def wanted(option: "Field[Any]") -> str:
    """What fits, for messages: `a whole number >= 1`."""
    if option.metadata.get("is_name"):
        return "a name of letters, digits, '.', '_', '-'"
    words = [_NAMES[kind] if kind in _NAMES else _choices(kind) for kind in _alternatives(option.type)]
    low, high = option.metadata["minimum"], option.metadata["maximum"]
    limits = " and ".join(f"{sign} {limit}" for sign, limit in ((">=", low), ("<=", high)) if limit is not None)
    words[0] += f" {limits}" if limits else ""
    return " or ".join(word for word in words if word)


_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple[str, ...]: "a list of texts",
    types.NoneType: "",
}


def _choices(kind: Any) -> str:
    return " or ".join(f'"{choice}"' for choice in get_args(kind))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _fit(kind: Any, value: Any) -> Any:
    """`value` if it is of this kind, else None."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    if kind is int and isinstance(value, bool):
        return None
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if get_origin(kind) is tuple:
        return (
            tuple(value) if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value) else None
        )
    return value if isinstance(value, kind) and value != "" else None


def _in_range(option: "Field[Any]", value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    low = option.metadata["minimum"]
    high = option.metadata["maximum"] or (_MAX_FLOAT if isinstance(value, float) else _MAX_INT)
    return (low is None or value >= low) and value <= high


def _is_name(option: "Field[Any]", value: Any) -> bool:
    """True too where the option is none."""
    return not option.metadata.get("is_name") or check_name("worker", value) is None


def _read(kind: Any, text: str) -> Any:
    """`text` as a value of this kind, or None."""
    if kind is bool:
        return _TRUTHS.get(text.lower())
    if kind in (int, float):
        return _number(kind, text)
    if get_origin(kind) is tuple:
        return [item.strip() for item in text.split(",") if item.strip()]
    return None if kind is types.NoneType else text


def _number(kind: Callable[[str], float], text: str) -> float | None:
    try:
        return kind(text.replace("_", ""))
    except ValueError:
        return None
