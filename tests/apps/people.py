"""A table with a column of texts and one of numbers."""

import numpy as np
from jaxtyping import Float64

import samovar


@samovar.model
class People:
    """A line for each row."""

    def predict(
        self, city: samovar.Bytes[np.ndarray, "batch"], age: Float64[np.ndarray, "batch 1"]
    ) -> samovar.Bytes[np.ndarray, "batch"]:
        return np.array([f"{name.decode()}: {years[0]:g}" for name, years in zip(city, age, strict=True)], object)
