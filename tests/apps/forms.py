"""Shapes and outputs that a client may want in every form."""

from typing import NamedTuple

import numpy as np
from jaxtyping import BFloat16, Float16, Float32, Float64, Int32, Int64

import samovar


class Several(NamedTuple):
    """Four outputs of different kinds, in this order."""

    doubled: Float32[np.ndarray, "batch n"]
    width: Int32[np.ndarray, "batch"]
    text: samovar.Bytes[np.ndarray, "batch 1"]
    cube: Int64[np.ndarray, "batch 2 2"]


@samovar.model
class Mixed:
    """From numbers and a text per row: the numbers doubled, their number, the text reversed, a cube of zeros."""

    def predict(self, x: Float32[np.ndarray, "batch n"], name: samovar.Bytes[np.ndarray, "batch 1"]) -> Several:
        rows = len(x)
        text: np.ndarray = np.empty((rows, 1), object)
        text[:, 0] = [element[::-1] for element in name[:, 0]]
        return Several(x * 2, np.full(rows, x.shape[1], np.int32), text, np.zeros((rows, 2, 2), np.int64))


@samovar.model
class Scalar:
    """A number to its square, no axis at all."""

    def predict(self, x: Float64[np.ndarray, ""]) -> Float64[np.ndarray, ""]:
        return np.asarray(x * x)


@samovar.model
class Vector:
    """One number per row, no other axis."""

    def predict(self, x: Float32[np.ndarray, "batch"]) -> Float32[np.ndarray, "batch"]:
        return x + 1


@samovar.model
class Image:
    """Sixteen numbers to a row."""

    def predict(self, x: Float32[np.ndarray, "batch 4 4"]) -> Float32[np.ndarray, "batch 4 4"]:
        return x


@samovar.model
class OneText:
    """One text per row, as it is."""

    def predict(self, text: samovar.Bytes[np.ndarray, "batch 1"]) -> samovar.Bytes[np.ndarray, "batch 1"]:
        return text


class Halves(NamedTuple):
    """Outputs that JSON cannot carry, beside one that it can."""

    half: Float16[np.ndarray, "batch n"]
    brain: BFloat16[np.ndarray, "batch n"]
    whole: Float32[np.ndarray, "batch n"]


@samovar.model
class Narrow:
    """The input in three widths."""

    def predict(self, x: Float32[np.ndarray, "batch n"]) -> Halves:
        import ml_dtypes

        return Halves(x.astype(np.float16), x.astype(ml_dtypes.bfloat16), x)


class Specials(NamedTuple):
    """Values that JSON has no words for."""

    single: Float32[np.ndarray, "batch 5"]
    double: Float64[np.ndarray, "batch 5"]


@samovar.model
class Special:
    """Whatever comes in, out come NaN, both infinities, a negative zero and 1.5, twice."""

    def predict(self, x: Float32[np.ndarray, "batch"]) -> Specials:
        row = [np.nan, np.inf, -np.inf, -0.0, 1.5]
        return Specials(np.array([row] * len(x), np.float32), np.array([row] * len(x), np.float64))
