"""FAKE of detectron2.data.transforms: https://detectron2.readthedocs.io/en/latest/modules/data_transforms.html"""

from typing import Any

import numpy as np


class _Resize:
    def __init__(self, height: int, width: int) -> None:
        self._size = height, width

    def apply_image(self, image: Any) -> Any:
        """The image in the new size, by nearest neighbours."""
        rows, columns = (np.arange(new) * old // new for new, old in zip(self._size, image.shape[:2], strict=True))
        return image[rows][:, columns]


class ResizeShortestEdge:
    """Makes the shorter edge `short_edge_length`, unless the longer one would be more than `max_size`."""

    def __init__(self, short_edge_length: list[int], max_size: int) -> None:
        self._shortest, self._longest = short_edge_length[0], max_size

    def get_transform(self, image: Any) -> _Resize:
        """The change of an image of this size."""
        height, width = image.shape[:2]
        scale = min(self._shortest / min(height, width), self._longest / max(height, width))
        return _Resize(round(height * scale), round(width * scale))
