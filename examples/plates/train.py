"""Trains stn.onnx and lprnet.onnx on streets that scenes.py draws, cut as the cascade of plates.py cuts them.

`python train.py` needs torch, onnx and onnxscript: 22 minutes on two cores.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional

from judge import HELD_OUT, judge, truth
from plates import ALPHABET, Detector
from scenes import street

HERE = Path(__file__).parent
BATCH = 64
BLANK = ALPHABET.index("-")
# Where the corners of a plate belong in the picture that the STN gives, in units of its half width and height.
FRAME = torch.tensor([[-0.96, -0.88, 1.0], [0.96, -0.88, 1.0], [0.96, 0.88, 1.0], [-0.96, 0.88, 1.0]])


@dataclass(frozen=True)
class Crops:
    """What the cascade cut from scenes; a crop that holds no whole plate has the text "" and corners of nan."""

    pixels: Float32[np.ndarray, "n 3 24 94"]
    texts: list[str]
    corners: Float32[np.ndarray, "n 4 2"]


def main() -> None:
    """Draw, train, judge on scenes that were not trained on, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=1000, help="how many are drawn for training")
    parser.add_argument("--epochs", type=int, default=40, help="how often each crop is seen")
    parser.add_argument("--held-out", type=int, default=150, help="how many others are read in the end")
    parser.add_argument("--output", type=Path, default=HERE, help="the folder for both files")
    arguments = parser.parse_args()
    began = time.monotonic()
    torch.manual_seed(0)
    training = draw(range(arguments.scenes))
    stn, lprnet = (network.to(memory_format=torch.channels_last) for network in (Stn(), LprNet()))
    print(f"{time.monotonic() - began:4.0f} s  {len(training.texts)} crops, {training.texts.count('')} without a plate")
    for epoch, loss in enumerate(learn(stn, lprnet, training, arguments.epochs), 1):
        print(f"{time.monotonic() - began:4.0f} s  epoch {epoch}: loss {loss:.3f}", flush=True)
    export(stn, arguments.output / "stn.onnx", "straight")
    export(lprnet, arguments.output / "lprnet.onnx", "logits")
    print(judge(range(HELD_OUT, HELD_OUT + arguments.held_out), arguments.output))


# --- crops -----------------------------------------------------------------------------------------------------------


def draw(seeds: range) -> Crops:
    """The crops of a scene for each seed, by every core."""
    with multiprocessing.get_context("spawn").Pool(initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        parts = list(pool.imap(crops_of_scene, seeds, chunksize=8))
    pixels, texts, corners = zip(*parts, strict=True)
    return Crops(np.concatenate(pixels), [text for part in texts for text in part], np.concatenate(corners))


def crops_of_scene(seed: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Pixels, texts and corners of what the cascade finds in one scene."""
    scene = street(np.random.default_rng(seed), cars=20, faults=1.2)  # harder than what is judged
    detector = Detector()
    detector.load()
    found = detector.predict(scene.image)
    truths = [truth(box, scene.plates) for box in found.boxes]
    return found.crops, [text for text, _ in truths], np.reshape([c for _, c in truths], (-1, 4, 2)).astype(np.float32)


# --- networks --------------------------------------------------------------------------------------------------------


class Stn(nn.Module):
    """A spatial transformer (Jaderberg et al., 2015): finds the affine map that makes the plate fill the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.find = nn.Sequential(
            nn.AvgPool2d(2), *block(3, 24), nn.MaxPool2d(2), *block(24, 48), nn.MaxPool2d((1, 2)), *block(48, 48),
            nn.Flatten(), nn.Linear(48 * 6 * 11, 6),
        )  # fmt: skip
        nn.init.zeros_(self.find[-1].weight)
        nn.init.zeros_(self.find[-1].bias)
        columns, rows = torch.meshgrid(middles(94), middles(24), indexing="xy")
        self.register_buffer("grid", torch.stack([columns, rows, torch.ones_like(rows)], -1).reshape(-1, 3), False)

    def forward(self, plates: Tensor) -> Tensor:
        return self.straighten(plates, self.maps(plates))

    def straighten(self, plates: Tensor, maps: Tensor) -> Tensor:
        grid = (self.grid @ maps).reshape(-1, 24, 94, 2)
        return functional.grid_sample(plates, grid, padding_mode="border", align_corners=False)

    def maps(self, plates: Tensor) -> Tensor:
        """[batch, 3, 2]: a point of the result, as column, row and 1, times this is where it is taken from."""
        return self.find(standard(plates)).reshape(-1, 3, 2) + torch.eye(3)[:, :2]


class LprNet(nn.Module):
    """Reads 18 steps from left to right, 23 classes each, without recurrence: LPRNet (Zherzdev, Gruzdev, 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Sequential(
            *block(3, 40, 5, 2), *block(40, 64), *block(64, 64), nn.MaxPool2d(2, ceil_mode=True),
            *block(64, 96), *block(96, 96), nn.MaxPool2d((2, 1)), *block(96, 128), nn.Dropout(0.1),
            nn.Conv2d(128, 128, (3, 1)), nn.ReLU(), nn.Flatten(2), nn.Linear(24, 18), nn.ReLU(),
            nn.Conv1d(128, BLANK + 1, 1),
        )  # fmt: skip

    def forward(self, plates: Tensor) -> Tensor:
        return self.read(standard(plates))


def block(channels: int, wider: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, wider, size, stride, size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(wider), nn.ReLU()]


def middles(count: int) -> Tensor:
    """The middles of so many pixels between -1 and 1."""
    return (torch.arange(count) + 0.5) / count * 2 - 1


def standard(plates: Tensor) -> Tensor:
    """Each picture by its own mean and spread, never by those of the batch: light is not what is read."""
    centered = plates - plates.mean((1, 2, 3), keepdim=True)
    return centered / (centered.square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-3)


# --- training --------------------------------------------------------------------------------------------------------


def learn(stn: Stn, lprnet: LprNet, crops: Crops, epochs: int) -> Iterator[float]:
    """Train both together; the mean loss of each epoch."""
    parameters = [*stn.parameters(), *lprnet.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=1e-3)
    batches = len(crops.texts) // BATCH
    if not batches:
        raise SystemExit(f"{len(crops.texts)} crops are less than a batch of {BATCH}; draw more scenes")
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * batches, pct_start=0.15)
    targets = [torch.tensor([ALPHABET.index(character) for character in text]) for text in crops.texts]
    for _ in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(targets))[: batches * BATCH].split(BATCH):
            plates, corners = moved(torch.from_numpy(crops.pixels[chosen]), torch.from_numpy(crops.corners[chosen]))
            loss = loss_of(stn, lprnet, plates, corners, [targets[index] for index in chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 5)
            optimizer.step()
            schedule.step()
            total += loss.item()
        yield total / batches


def loss_of(stn: Stn, lprnet: LprNet, plates: Tensor, corners: Tensor, targets: list[Tensor]) -> Tensor:
    """How far the corners are from where they belong, and CTC (Graves et al., 2006) of the texts."""
    maps = stn.maps(plates)
    is_whole = ~corners.isnan().any((1, 2))
    places = functional.smooth_l1_loss((FRAME @ maps)[is_whole], corners[is_whole], beta=0.05)
    odds = lprnet(stn.straighten(plates, maps)).permute(2, 0, 1).log_softmax(2)
    steps = torch.full((len(targets),), len(odds))
    lengths = torch.tensor([len(target) for target in targets])
    return functional.ctc_loss(odds, torch.cat(targets), steps, lengths, BLANK, zero_infinity=True) + 5 * places


def moved(plates: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    """The crops and their corners a little shifted and scaled, with noise: no epoch sees what another saw."""
    scale = 1 + 0.05 * torch.randn(len(plates), 2).clamp(-2, 2)
    shift = torch.randn(len(plates), 2).clamp(-2, 2) * torch.tensor([0.03, 0.05])
    maps = torch.cat([torch.diag_embed(scale), shift[:, :, None]], 2)
    grid = functional.affine_grid(maps, list(plates.shape), align_corners=False)
    plates = functional.grid_sample(plates, grid, padding_mode="border", align_corners=False)
    plates = plates + torch.randn_like(plates) * torch.rand(len(plates), 1, 1, 1) * 0.06
    return plates, (corners - shift[:, None]) / scale[:, None]


# --- result ----------------------------------------------------------------------------------------------------------


def export(network: nn.Module, path: Path, output: str) -> None:
    """One ONNX file, any batch."""
    network.eval()
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, 24, 94),),
        path,
        input_names=["plates"],
        output_names=[output],
        dynamic_shapes={"plates": {0: torch.export.Dim("batch")}},
        opset_version=20,
        external_data=False,
        verbose=False,
    )


if __name__ == "__main__":
    main()
