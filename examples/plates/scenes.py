"""Draws streets with cars whose number plates are known: what train.py learns from, and what the demo sends.

`python scenes.py street.jpg` writes one and prints its plates.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

Picture = UInt8[np.ndarray, "height width 3"]
Corners = Float64[np.ndarray, "4 2"]

WIDTH, HEIGHT = 1920, 1080
HORIZON = 330
SEED, CARS = 2068, 6  # of the street of the demo; train.py sees seeds below 1,000
LETTERS = "ABEKMHOPCTYX"
PAINTS = [
    (225, 225, 222),
    (40, 42, 45),
    (120, 124, 128),
    (165, 168, 170),
    (60, 90, 130),
    (130, 35, 35),
    (70, 95, 75),
    (185, 175, 150),
]
# Strokes on a grid of 8 x 8, column and row of each point; the shapes are those of GOST R 50577-93, without its curves.
STROKES = {
    "0": "20 60 82 86 68 28 06 02 20",
    "1": "13 50 58",
    "2": "02 20 60 82 83 08 88",
    "3": "01 20 60 82 63 33 63 85 86 68 28 07",
    "4": "50 06 86/63 68",
    "5": "80 10 04 23 63 85 86 68 28 07",
    "6": "60 04 06 28 68 86 85 63 23 05",
    "7": "00 80 38",
    "8": "20 60 71 72 63 23 12 11 20/23 63 85 86 68 28 06 05 23",
    "9": "28 84 82 60 20 02 03 25 65 83",
    "A": "08 40 88/26 66",
    "B": "00 60 71 73 64 04/64 85 87 68 08 00",
    "E": "80 00 08 88/04 74",
    "K": "00 08/80 04 14 88",
    "M": "08 00 45 80 88",
    "H": "00 08/80 88/04 84",
    "O": "20 60 82 86 68 28 06 02 20",
    "P": "08 00 60 82 83 65 05",
    "C": "82 60 20 02 06 28 68 86",
    "T": "00 80/40 48",
    "Y": "00 45/80 38 18",
    "X": "00 88/80 08",
}


@dataclass(frozen=True)
class Placed:
    """A plate in a picture: its text and its corners in pixels, clockwise from the top left."""

    text: str
    corners: Corners


@dataclass(frozen=True)
class Scene:
    image: Picture
    plates: list[Placed]


def street(rng: np.random.Generator, cars: int, faults: float = 1.0) -> Scene:
    """A street with at most so many cars, as a camera sees it: light, resolution, blur and noise differ.

    `faults` is by how much the worst camera is worse than that.
    """
    image = _surroundings(rng)
    places = _places(rng)
    chosen = np.sort(rng.permutation(len(places))[:cars])
    plates = [_draw_car(image, places[index], rng) for index in chosen]
    return _photograph(image, plates, rng, faults)


def _places(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Left, bottom and width of cars in rows, the farthest first: no car hides the plate of another."""
    width = rng.uniform(380, 700)
    depth = (HEIGHT - HORIZON) * 0.97 / width  # by how much of its width a car is below the horizon
    rows = []
    while width > 225:
        free = WIDTH % (1.12 * width)
        lefts = np.arange(rng.uniform(0, free), WIDTH - width, 1.12 * width)
        rows.append([(left + rng.uniform(-0.04, 0.04) * width, HORIZON + depth * width, width) for left in lefts])
        width *= 0.97 * (depth - 0.8) / (depth - 0.17)
    return [place for row in reversed(rows) for place in row]


def plate_text(rng: np.random.Generator) -> str:
    """A text as Russian cars have it: letter, three digits, two letters, a region of two or three digits."""
    letters = rng.choice(list(LETTERS), 3)
    region = rng.integers(1, 100) if rng.random() < 0.5 else rng.choice([1, 7, 9]) * 100 + rng.integers(0, 100)
    return f"{letters[0]}{rng.integers(1, 1000):03}{letters[1]}{letters[2]}{region:02}"


def draw_plate(text: str, rng: np.random.Generator) -> Picture:
    """The plate alone, 520 x 112 mm at a millimetre per pixel, not quite new."""
    plate = np.full((112, 520, 3), rng.uniform(215, 255), np.uint8)
    ink = float(rng.uniform(10, 60))
    cv2.rectangle(plate, (3, 3), (516, 108), (ink, ink, ink), 5, cv2.LINE_AA)
    border = round(rng.uniform(364, 374))
    cv2.line(plate, (border, 3), (border, 108), (ink, ink, ink), 4)
    pen = (round(rng.uniform(9, 15)), ink)
    for character, left in zip(text, (28, 86, 141, 196, 258, 310), strict=False):
        size = (44, 68) if character.isdigit() else (40, 50)
        _write(plate, character, (left, 90 - size[1]), size, pen)
    region = text[6:]
    for index, character in enumerate(region):
        left = 388 + index * 40 if len(region) == 3 else 400 + index * 48
        _write(plate, character, (left, 16), (29, 50), pen)
    cv2.putText(plate, "RUS", (388, 98), cv2.FONT_HERSHEY_PLAIN, 1.5, (ink, ink, ink), 2, cv2.LINE_AA)
    for row, color in enumerate(((255, 255, 255), (40, 60, 170), (190, 40, 40))):
        cv2.rectangle(plate, (456, 82 + row * 6), (494, 88 + row * 6), color, -1)
    return _soiled(plate, rng)


def _write(
    plate: Picture, character: str, corner: tuple[float, float], size: tuple[float, float], pen: tuple[int, float]
) -> None:
    for stroke in STROKES[character].split("/"):
        points = np.array([[int(digit) for digit in point] for point in stroke.split()]) / 8 * size + corner
        cv2.polylines(plate, [(points * 16).astype(np.int32)], False, (pen[1],) * 3, pen[0], cv2.LINE_AA, shift=4)


def _soiled(plate: Picture, rng: np.random.Generator) -> Picture:
    """Dirt in soft spots, and a shade over one side."""
    spots = np.zeros(plate.shape[:2], np.float32)
    for _ in range(rng.integers(0, 7)):
        center = (int(rng.integers(0, 520)), int(rng.integers(20, 112)))
        cv2.ellipse(
            spots, center, (int(rng.integers(5, 60)), int(rng.integers(3, 20))), 0, 0, 360, rng.uniform(0.1, 0.5), -1
        )
    dirt = cv2.GaussianBlur(spots, (0, 0), 6)[..., None]
    mud = np.array([96, 84, 70], np.float32) * np.float32(rng.uniform(0.6, 1.2))
    shade = np.linspace(rng.uniform(0.75, 1), rng.uniform(0.75, 1), 520, dtype=np.float32)[None, :, None]
    return ((plate * (1 - dirt) + mud * dirt) * shade).astype(np.uint8)


def _surroundings(rng: np.random.Generator) -> Picture:
    """Sky, houses, pavement and road."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    sky = np.linspace(rng.uniform((90, 130, 170), (150, 180, 220)), rng.uniform(190, 235, 3), HORIZON)
    image[:HORIZON] = sky[:, None]
    left = rng.uniform(-200, 0)
    while left < WIDTH:
        left += _draw_house(image, left, rng)
    asphalt = np.linspace(rng.uniform(95, 130), rng.uniform(60, 90), HEIGHT - HORIZON)
    image[HORIZON:] = asphalt[:, None, None]
    _fill(image, _rectangle(0, HORIZON, WIDTH, 26), rng.uniform(130, 165))
    for lane in (-0.75, -0.25, 0.25, 0.75):
        for far, near in ((0.04, 0.1), (0.16, 0.3), (0.42, 0.7)):
            edges = [
                (lane * (0.3 + depth) + side * (0.003 + 0.008 * depth), depth)
                for depth, side in ((far, -1), (far, 1), (near, 1), (near, -1))
            ]
            _fill(
                image, [(WIDTH * (0.5 + x), HORIZON + 26 + (HEIGHT - HORIZON) * y) for x, y in edges], (205, 205, 200)
            )
    return image


def _draw_house(image: Picture, left: float, rng: np.random.Generator) -> float:
    """A house from the horizon up; its width."""
    width, top, step = rng.uniform((160, 20, 34), (380, 190, 60))
    wall = rng.uniform(90, 200) * rng.uniform((0.95, 0.8, 0.65), (1, 0.95, 0.95))
    _fill(image, _rectangle(left, top, width, HORIZON - top), wall)
    for x in np.arange(left + 14, left + width - 0.6 * step, step):
        for y in np.arange(top + 18, HORIZON - 40, step * 1.3):
            _fill(image, _rectangle(x, y, step * 0.5, step * 0.8), wall * rng.uniform(0.35, 0.75))
    return float(width)


def _draw_car(image: Picture, place: tuple[float, float, float], rng: np.random.Generator) -> Placed:
    """A car from its front, with a plate that is turned a little."""
    left, bottom, width = place
    paint = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.8, 1.05)

    def paint_on(color: object, points: Iterable[tuple[float, float]]) -> None:
        """Points are widths of the car from its middle and its roof."""
        outline = [(left + (0.5 + x) * width, bottom + (y - 0.8) * width) for x, y in points]
        _fill(image, outline, color, 0.02 * width)

    def part(color: object, *points: tuple[float, float]) -> None:
        """The right half of a part, which the left half mirrors."""
        paint_on(color, [*points, *((-x, y) for x, y in reversed(points))])

    def pair(color: object, *points: tuple[float, float]) -> None:
        """A part at the right, and its twin at the left."""
        for side in (-1, 1):
            paint_on(color, ((side * x, y) for x, y in points))

    part((38, 38, 40), (0.48, 0.79), (0.52, 0.82))
    pair((22, 22, 24), (0.44, 0.6), (0.31, 0.6), (0.31, 0.8), (0.44, 0.8))
    pair(paint * 0.8, (0.44, 0.27), (0.54, 0.26), (0.54, 0.33), (0.45, 0.33))
    part(paint * 0.9, (0.29, 0.03), (0.41, 0.33))
    part(rng.uniform(30, 90) * np.array((0.9, 1, 1.1)), (0.26, 0.07), (0.36, 0.29))
    part(paint, (0.43, 0.33), (0.49, 0.44), (0.48, 0.72))
    part((30, 30, 34), (0.2, 0.43), (0.17, 0.52))
    pair(rng.uniform(180, 245) * np.array((1, 1, 0.93)), (0.26, 0.44), (0.43, 0.41), (0.44, 0.49), (0.28, 0.5))
    part(paint * rng.uniform(0.35, 0.95), (0.46, 0.57), (0.45, 0.75))
    part((28, 28, 30), (0.2, 0.7), (0.18, 0.74))
    middle = (left + rng.uniform(0.48, 0.52) * width, bottom - rng.uniform(0.15, 0.19) * width)
    corners = _turned(0.29 * width * rng.uniform(0.9, 1.05), rng) + middle
    if rng.random() < 0.5:
        _fill(image, list(corners), (25, 25, 27), 0.02 * width)  # a frame
    text = plate_text(rng)
    _paste(image, draw_plate(text, rng), corners)
    return Placed(text, corners)


def _turned(width: float, rng: np.random.Generator) -> Corners:
    """The corners of a plate of this width around its centre, seen from a little aside, above and askew."""
    yaw, pitch, roll = rng.uniform((-0.45, -0.25, -0.07), (0.45, 0.25, 0.07))
    corners = np.array([[-0.5, -0.1077, 0], [0.5, -0.1077, 0], [0.5, 0.1077, 0], [-0.5, 0.1077, 0]])
    for angle, (first, second) in ((yaw, (0, 2)), (pitch, (1, 2)), (roll, (0, 1))):
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[second, first] = np.sin(angle)
        turn[first, second] = -turn[second, first]
        corners = corners @ turn.T
    return corners[:, :2] / (1 + corners[:, 2:] / 4) * width


def _paste(image: Picture, plate: Picture, corners: Corners) -> None:
    """Lay the plate on these corners."""
    width = round(np.linalg.norm(corners[1] - corners[0]) * 2)
    plate = cv2.resize(plate, (width, round(width * 112 / 520)), interpolation=cv2.INTER_AREA)
    height, width = plate.shape[:2]
    low = np.floor(corners.min(axis=0)).astype(int) - 2
    high = np.ceil(corners.max(axis=0)).astype(int) + 3
    low, high = low.clip(0, (WIDTH, HEIGHT)), high.clip(0, (WIDTH, HEIGHT))
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    view = cv2.getPerspectiveTransform(frame, (corners - low).astype(np.float32))
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    area = image[low[1] : high[1], low[0] : high[0]]
    mask = cv2.warpPerspective(np.ones(plate.shape[:2], np.float32), view, size)[..., None]
    area[:] = area * (1 - mask) + cv2.warpPerspective(plate, view, size) * mask


def _photograph(image: Picture, plates: list[Placed], rng: np.random.Generator, faults: float) -> Scene:
    """The picture of a camera, with its faults."""
    light = rng.uniform(0.55, 1.2)
    table = (255 * np.clip(light * (np.arange(256) / 255) ** rng.uniform(0.8, 1.2), 0, 1)).astype(np.uint8)
    image = cv2.LUT(image, table)
    scale = 1 / rng.uniform(1, 1.8) if rng.random() < 0.5 else 1.0
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image, (0, 0), scale * rng.uniform(0.3, faults))
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 5.8 * faults))
    image = (image + noise).clip(0, 255).astype(np.uint8)
    _, file = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))])
    return Scene(np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR)), [Placed(p.text, p.corners * scale) for p in plates])


def _rectangle(left: float, top: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


def _fill(image: Picture, points: Sequence[object], color: object, rounding: float = 0) -> None:
    """A polygon, with its corners rounded by this many pixels, which it grows by."""
    corners = (np.array(points) * 16).astype(np.int32)
    shade = np.broadcast_to(np.asarray(color, float), 3).tolist()
    cv2.fillPoly(image, [corners], shade, cv2.LINE_AA, shift=4)
    if rounding >= 1:
        cv2.polylines(image, [corners], True, shade, round(rounding), cv2.LINE_AA, shift=4)


def save(image: Picture, path: Path) -> None:
    """Write the picture as a file; its ending names the format."""
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="where the picture goes")
    parser.add_argument("--seed", type=int, default=SEED, help="another one, another street")
    parser.add_argument("--cars", type=int, default=CARS, help="how many, at most")
    arguments = parser.parse_args()
    scene = street(np.random.default_rng(arguments.seed), arguments.cars)
    save(scene.image, arguments.path)
    print(*(plate.text for plate in scene.plates), sep="\n")


if __name__ == "__main__":
    main()
