"""Batches filled up to few lengths, for frameworks that compile for each."""

from collections.abc import Callable, Mapping
from typing import Any

from samovar.errors import InvalidInputError
from samovar.runtimes.files import check_rows
from samovar.types import Signature

__all__ = ["Run", "padded"]

Run = Callable[[dict[str, Any]], Mapping[str, Any]]


def padded(run: Run, signature: Signature) -> Run:
    """`run` of batches as long as the next power of two: a compilation takes 0.05 to 0.8 s, and few are left of them.

    The last row is repeated, since zeros may be none that a model takes; no row at all becomes one of zeros, since a
    symbol of JAX is 1 or more. A length that `run` refuses by InvalidInputError is not tried again. What has no batch
    axis stays as it is.
    """
    if not signature.batch_axis:
        return run
    exact: set[int] = set()  # lengths that are run as they are

    def run_padded(inputs: dict[str, Any]) -> Mapping[str, Any]:
        rows = len(next(iter(inputs.values())))
        missing = (1 << max(rows - 1, 0).bit_length()) - rows
        if not missing or rows in exact:
            return run(inputs)
        try:
            found = run({name: _filled(array, missing) for name, array in inputs.items()})
        except InvalidInputError:  # a constraint on the batch, of which no file tells
            found = run(inputs)
            exact.add(rows)
            return found
        check_rows(found, rows + missing)
        return {name: array[:rows] for name, array in found.items()}

    return run_padded


def _filled(array: Any, missing: int) -> Any:
    import numpy as np

    last = (
        array[-1:] if len(array) else np.full((1, *array.shape[1:]), b"" if array.dtype == object else 0, array.dtype)
    )
    return np.concatenate([array, last.repeat(missing, 0)])
