"""Large tensors in and out."""

import numpy as np
from jaxtyping import Int32, UInt8

import samovar


@samovar.model(max_batch_size=1)
class Big:
    """UINT8[batch, n], unchanged: the size is the request's."""

    def predict(self, x: UInt8[np.ndarray, "batch n"]) -> UInt8[np.ndarray, "batch n"]:
        return x


@samovar.model(max_batch_size=1)
class Grow:
    """Answers `mebibytes` MiB of zeros."""

    def predict(self, mebibytes: Int32[np.ndarray, "batch 1"]) -> UInt8[np.ndarray, "batch n"]:
        return np.zeros((1, int(mebibytes[0, 0]) << 20), np.uint8)
