"""Modules of torch, saved by the tests that need them."""

import warnings
from pathlib import Path
from typing import NamedTuple

import torch


class Double(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Sums(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a + b, a - b


class Rectified(torch.nn.Module):
    """Writes into its input, as networks for images do."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = torch.nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(x)


class Found(NamedTuple):
    boxes: torch.Tensor
    scores: torch.Tensor


class Named(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Found:
        return Found(x, x + 1)


class Dictionary(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"boxes": x, "scores": x + 1, "extra": x}


class Listed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x + n for n in range(2)]


class Lists(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        return {"x": [x]}


class Growing(torch.nn.Module):
    """Its dictionary is not what it was when it was made."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {"x": x}
        if x.numel() > 1:
            found["y"] = x
        return found


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x, x + 1]


class Recurrent(torch.nn.Module):
    """What LSTM returns, and what attention returns without its weights."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]:
        return x, (x + 1, x + 2), None


class Defaults(torch.nn.Module):
    def forward(self, x: torch.Tensor, factor: float = 2.0, offset: torch.Tensor | None = None) -> torch.Tensor:
        y = x * factor
        return y if offset is None else y + offset


class Counted(torch.nn.Module):
    def forward(self, x: torch.Tensor, count: int) -> torch.Tensor:
        return x * count


class Texts(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> list[str]:
        return ["a"]


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Images(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Lookup(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(3, 2)

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return self.table(index)


class Refusing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() < 0):
            raise ValueError("negative")
        return x


def scripted(module: torch.nn.Module, path: Path, settings: str | None = None) -> Path:
    """Save the module as torch.jit.script has it; `settings` is the samovar.toml inside."""
    with quiet():
        compiled = torch.jit.script(module)
        compiled.save(path, _extra_files={} if settings is None else {"samovar.toml": settings})
    return path


def traced(module: torch.nn.Module, path: Path, *examples: torch.Tensor) -> Path:
    """Save the module as torch.jit.trace has it."""
    with quiet():
        torch.jit.trace(module, examples).save(path)
    return path


class quiet(warnings.catch_warnings):  # noqa: N801 - used as a statement
    """Torch calls the format deprecated; it is what users have."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
