"""Reads the number plates of a photo: a cascade finds them, two networks straighten and read them."""

import re
from itertools import groupby
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

import samovar

ALPHABET = "0123456789ABEKMHOPCTYX-"  # "-" is the blank of CTC
RUSSIAN = re.compile(r"[ABEKMHOPCTYX]\d{3}[ABEKMHOPCTYX]{2}\d{2,3}")


class Box(NamedTuple):
    x: int
    y: int
    width: int
    height: int


class Plate(NamedTuple):
    text: str
    confidence: float
    box: Box


class Found(NamedTuple):
    boxes: Int32[np.ndarray, "n 4"]
    crops: Float32[np.ndarray, "n 3 24 94"]


@samovar.model
class Detector:
    def load(self) -> None:
        self.cascade = cv2.CascadeClassifier(f"{cv2.__path__[0]}/data/haarcascade_russian_plate_number.xml")

    def predict(self, image: UInt8[np.ndarray, "height width 3"]) -> Found:
        """Where plates may be, in pixels of the photo, and what is there in the form that the networks take."""
        if image.size == 0:
            raise samovar.InvalidInputError("the photo has no pixels", "send one that has")
        scale = 1920 / max(image.shape)
        photo = cv2.resize(image, [max(1, round(n * scale)) for n in image.shape[1::-1]], interpolation=cv2.INTER_AREA)
        found = self.cascade.detectMultiScale(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), 1.1, 3)
        boxes = np.reshape(found, (-1, 4)).astype(np.float32)
        boxes[:, :2] += boxes[:, 2:] * (0.06, 0.01)  # the cascade leaves room around a plate
        boxes[:, 2:] *= (0.88, 0.98)
        cuts = [photo[y : y + height, x : x + width] for x, y, width, height in boxes.round().astype(int)]
        crops = [cv2.resize(cut, (94, 24), interpolation=cv2.INTER_AREA) for cut in cuts]
        pixels = np.array(crops, np.float32).reshape(-1, 24, 94, 3).transpose(0, 3, 1, 2)
        return Found((boxes / scale).round().astype(np.int32), (pixels - 127.5) * 0.0078125)


def read(logits: np.ndarray, boxes: np.ndarray) -> list[Plate]:
    """The likeliest text of each box, with its probability; what is no plate is left out, and what was read twice."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = (odds.max(axis=1) / odds.sum(axis=1)).prod(axis=1)
    plates: dict[str, Plate] = {}
    for index in np.argsort(-sure):
        text = "".join(ALPHABET[step] for step, _ in groupby(odds[index].argmax(axis=0))).replace("-", "")
        if RUSSIAN.fullmatch(text):
            plates.setdefault(text, Plate(text, float(sure[index]), Box(*boxes[index].tolist())))
    return list(plates.values())


@samovar.service
class Plates:
    detector = samovar.use(Detector)
    stn = samovar.use("stn.onnx")
    lprnet = samovar.use("lprnet.onnx")

    @samovar.api(idempotent=True)
    async def recognize(self, image: samovar.Image) -> list[Plate]:
        """The number plates of a photo, and how sure it is of each."""
        found = await self.detector.predict(image)
        if not len(found.boxes):
            return []
        return read(await self.lprnet.predict(await self.stn.predict(found.crops)), found.boxes)
