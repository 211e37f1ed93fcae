"""Sends a photo to a running `plates.py`, prints its plates, and saves the photo with them drawn in.

`python recognize.py photo.jpg annotated.jpg` needs no more than Samovar itself.
"""

import argparse
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw, ImageFont, ImageOps

Plate = dict[str, Any]


def recognize(url: str, photo: Path) -> list[Plate]:
    """The plates of a photo: text, confidence and box of each."""
    try:
        answer = httpx.post(f"{url}/plates/recognize", files={"image": photo.read_bytes()}, timeout=60)
    except (OSError, httpx.TransportError) as error:
        raise SystemExit(f"{photo} cannot be sent to {url}: {error}") from None
    if answer.is_error:
        raise SystemExit(f"{photo}: {answer.json()['error']}")
    plates: list[Plate] = answer.json()
    return plates


def annotate(photo: Path, plates: list[Plate], annotated: Path) -> None:
    """Save the photo with a frame around each plate and its text above it."""
    image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(12, image.width // 60))
    for plate in plates:
        x, y, width, height = (plate["box"][side] for side in ("x", "y", "width", "height"))
        draw.rectangle((x, y, x + width, y + height), outline="lime", width=max(2, image.width // 600))
        left, top, right, bottom = draw.textbbox((x, y - 4), plate["text"], font, "lb")
        draw.rectangle((left - 3, top - 3, right + 3, bottom + 3), fill="black")
        draw.text((x, y - 4), plate["text"], "lime", font, "lb")
    image.save(annotated)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("annotated", type=Path, nargs="?", help="where the photo with its plates goes, if anywhere")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    arguments = parser.parse_args()
    plates = recognize(arguments.url, arguments.photo)
    for plate in plates:
        box = plate["box"]
        print(f"{plate['text']:<9}  {plate['confidence']:.2f}  at {box['x']}, {box['y']}")
    if arguments.annotated is not None:
        annotate(arguments.photo, plates, arguments.annotated)


if __name__ == "__main__":
    main()
