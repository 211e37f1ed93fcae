"""The arguments of a call, by position or name, in the order of a signature."""

from collections.abc import Mapping, Sequence
from typing import Any

from samovar.errors import InputError
from samovar.types import TensorSpec

__all__ = ["in_order"]


def in_order(model: str, inputs: Sequence[TensorSpec], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The values for `inputs` of the model, each exactly once. Raises InputError."""
    names = [spec.name for spec in inputs]
    shown = ", ".join(names) or "none"
    if len(args) > len(names):
        raise InputError(f'model "{model}" takes {len(names)} inputs, got {len(args)}', f"they are: {shown}")
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names:
            raise InputError(f'model "{model}" has no input "{name}"', f"its inputs are: {shown}")
        if name in given:
            raise InputError(f'input "{name}" of model "{model}" is given twice', "by position or by name, not both")
        given[name] = value
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(f'input "{missing[0]}" of model "{model}" is missing', f"its inputs are: {shown}")
    return [given[name] for name in names]
