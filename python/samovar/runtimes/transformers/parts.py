"""What a folder holds, in memory: configuration, model, tokenizer or image processor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["Parts"]

_NO_LIMIT = 1 << 20  # a tokenizer that knows no limit says 10^30


@dataclass(frozen=True)
class Parts:
    """The parts of a folder; `model` and `processor` are None until it is loaded."""

    path: Path
    config: Any
    options: dict[str, Any]
    model: Any = None
    processor: Any = None

    @cached_property
    def most_tokens(self) -> int | None:
        """How many tokens a text can have; None where neither the tokenizer nor the model has a limit."""
        limits = [self.processor.model_max_length, getattr(self.config, "max_position_embeddings", None)]
        known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < _NO_LIMIT]
        return min(known, default=None)

    @cached_property
    def _arguments(self) -> set[str]:
        import inspect

        return set(inspect.signature(self.model.forward).parameters)

    def tokens(self, texts: Sequence[str], pairs: Sequence[str] | None = None, **settings: Any) -> Any:
        """The tokens of texts, padded to the longest; what is longer than the model allows is cut off."""
        if self.most_tokens is not None and settings.get("truncation", True):
            settings = {"truncation": True, "max_length": self.most_tokens, **settings}
        return self.processor(texts, pairs, return_tensors="pt", **{"padding": len(texts) > 1, **settings})

    def forward(self, prepared: Any) -> Any:
        """What the model makes of prepared inputs, less those that it does not take; it is fetched from its device."""
        from torch import Tensor
        from torch.utils import _pytree as pytree

        device = self.model.device
        made = self.model(**{name: one.to(device) for name, one in prepared.items() if name in self._arguments})
        return made if device.type == "cpu" else pytree.tree_map_only(Tensor, Tensor.cpu, made)

    def without_gradients(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, for inference alone."""
        import torch

        inference: Callable[..., Any] = torch.inference_mode()(run)
        return inference
