"""FAKE of detectron2.config: https://detectron2.readthedocs.io/en/latest/modules/config.html"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml


class CfgNode(SimpleNamespace):
    """Settings as attributes."""

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Take over what a file says; with `allow_unsafe` its YAML may call functions."""
        load = yaml.unsafe_load if allow_unsafe else yaml.safe_load
        _merge(self, load(Path(cfg_filename).read_text()))


def _merge(node: CfgNode, content: dict[str, Any]) -> None:
    for key, value in content.items():
        if not hasattr(node, key):
            raise KeyError(f"Non-existent config key: {key}")
        if isinstance(value, dict):
            _merge(getattr(node, key), value)
        else:
            setattr(node, key, value)


def get_cfg() -> CfgNode:
    """The defaults."""
    model = CfgNode(META_ARCHITECTURE="GeneralizedRCNN", DEVICE="cuda", WEIGHTS="", MASK_ON=False, KEYPOINT_ON=False)
    return CfgNode(MODEL=model, INPUT=CfgNode(FORMAT="BGR", MIN_SIZE_TEST=800, MAX_SIZE_TEST=1333))
