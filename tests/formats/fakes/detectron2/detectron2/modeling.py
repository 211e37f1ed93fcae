"""FAKE of detectron2.modeling: https://detectron2.readthedocs.io/en/latest/modules/modeling.html"""

from typing import Any

import torch


class Boxes:
    """Boxes as the vendor wraps them."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class Instances:
    """What was found in one image."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def to(self, device: str) -> "Instances":
        """The same on a device."""
        assert device == "cpu"
        return self


class Network(torch.nn.Module):
    """Finds what is brighter than a threshold, the score being the mean of the first channel there."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.threshold = torch.nn.Parameter(torch.zeros(1))
        self._has_masks = config.MODEL.MASK_ON

    def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """One answer for each image."""
        return [{"instances": self._found(**each)} for each in inputs]

    def _found(self, image: torch.Tensor, height: int, width: int) -> Instances:
        bright = image.mean(0) > self.threshold
        rows, columns = torch.nonzero(bright, as_tuple=True)
        count = int(len(rows) > 0)
        scale = torch.tensor([width, height, width, height]) / torch.tensor([*image.shape[:0:-1]] * 2)
        corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if count else []
        fields = {
            "pred_boxes": Boxes((torch.tensor(corners).reshape(count, 4) * scale).float()),
            "scores": torch.full((count,), float(image[0][bright].mean() / 255 if count else 0)),
            "pred_classes": torch.full((count,), 7),
        }
        if self._has_masks:
            fields["pred_masks"] = torch.ones((count, height, width), dtype=torch.bool)
        return Instances(**fields)


def build_model(cfg: Any) -> Network:
    """The network of a configuration."""
    assert cfg.MODEL.DEVICE == "cpu"
    return Network(cfg)
