"""Batches filled up to few lengths, for frameworks that compile for each."""

from collections.abc import Callable, Mapping
from typing import Any

from samovar.types import Signature

__all__ = ["Run", "padded"]

Run = Callable[[dict[str, Any]], Mapping[str, Any]]


def padded(run: Run, signature: Signature) -> Run:
    """`run` of batches as long as the next power of two: a compilation takes 0.1 to 0.5 s, and few are left of them.

    The last row is repeated, since zeros may be none that a model takes. What has no batch axis stays as it is.
    """
    if not signature.batch_axis:
        return run

    def run_padded(inputs: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        rows = len(next(iter(inputs.values())))
        missing = (1 << max(rows - 1, 0).bit_length()) - rows
        if rows and missing:
            inputs = {name: np.concatenate([array, array[-1:].repeat(missing, 0)]) for name, array in inputs.items()}
        return {name: array[:rows] for name, array in run(inputs).items()}

    return run_padded
