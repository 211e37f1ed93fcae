"""Says how many plates of streets that were not trained on are found by the cascade, and read rightly by the networks.

`python judge.py [SCENES]`
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import samovar
from plates import Detector, read
from scenes import Placed, street

HERE = Path(__file__).parent
HELD_OUT = 1_000_000  # the first seed that no training takes


@dataclass
class Verdict:
    """Counts of plates in the scenes, of those that the cascade cut out whole and that were read rightly, of errors."""

    drawn: int = 0
    found: int = 0
    right: int = 0
    invented: int = 0

    def __str__(self) -> str:
        return (
            f"{self.right} of {self.found} plates that the cascade finds are read rightly: "
            f"{self.right / max(1, self.found):.1%}. "
            f"It finds {self.found} of {self.drawn}. {self.invented} texts that were read are on no plate."
        )


def judge(seeds: range, weights: Path = HERE) -> Verdict:
    """Read the scenes of these seeds, 20 cars in each at most, with the networks of this folder."""
    verdict, detector = Verdict(), Detector()
    detector.load()
    with samovar.load(weights / "stn.onnx") as stn, samovar.load(weights / "lprnet.onnx") as lprnet:
        for seed in seeds:
            scene = street(np.random.default_rng(seed), cars=20)
            found = detector.predict(scene.image)
            whole = {text for text, _ in (truth(box, scene.plates) for box in found.boxes) if text}
            texts = {plate.text for plate in read(lprnet.predict(stn.predict(found.crops)), found.boxes)}
            verdict.drawn += len(scene.plates)
            verdict.found += len(whole)
            verdict.right += len(whole & texts)
            verdict.invented += len(texts - {plate.text for plate in scene.plates})
    return verdict


def truth(box: np.ndarray, plates: list[Placed]) -> tuple[str, np.ndarray]:
    """The text of the plate that is whole in this box, and its corners there, from -1 to 1; if none is, "" and nan."""
    for plate in plates:
        corners = (plate.corners - box[:2]) / box[2:] * 2 - 1
        if np.abs(corners).max() < 1.08:  # the border of a plate may be cut, its characters not
            return plate.text, corners
    return "", np.full((4, 2), np.nan)


if __name__ == "__main__":
    print(judge(range(HELD_OUT, HELD_OUT + int(sys.argv[1] if len(sys.argv) > 1 else 150))))
