"""The pipeline of examples/plates in plain functions, for engines that run where Samovar is not installed."""

import re
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

MODELS = Path(__file__).parents[2] / "examples" / "plates"
ALPHABET = "0123456789ABEKMHOPCTYX-"  # "-" is the blank of CTC
RUSSIAN = re.compile(r"[ABEKMHOPCTYX]\d{3}[ABEKMHOPCTYX]{2}\d{2,3}")


class Detector:
    """Finds where plates may be; one thread at a time."""

    def __init__(self) -> None:
        self.cascade = cv2.CascadeClassifier(f"{cv2.__path__[0]}/data/haarcascade_russian_plate_number.xml")

    def detect(self, image: np.ndarray) -> np.ndarray:
        """FP32[n, 3, 24, 94]: what is where plates may be, in the form that the networks take."""
        scale = 1920 / max(image.shape)
        photo = cv2.resize(image, [max(1, round(n * scale)) for n in image.shape[1::-1]], interpolation=cv2.INTER_AREA)
        found = self.cascade.detectMultiScale(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), 1.1, 3)
        boxes = np.reshape(found, (-1, 4)).astype(np.float32)
        boxes[:, :2] += boxes[:, 2:] * (0.06, 0.01)  # the cascade leaves room around a plate
        boxes[:, 2:] *= (0.88, 0.98)
        cuts = [photo[y : y + height, x : x + width] for x, y, width, height in boxes.round().astype(int)]
        crops = [cv2.resize(cut, (94, 24), interpolation=cv2.INTER_AREA) for cut in cuts]
        pixels = np.array(crops, np.float32).reshape(-1, 24, 94, 3).transpose(0, 3, 1, 2)
        return (pixels - 127.5) * 0.0078125


class Network:
    """An ONNX file with one input and one output, on the CPU."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """What it makes of FP32[n, 3, 24, 94]; any number of threads at a time."""
        return np.asarray(self.session.run(None, {self.input: batch})[0])


class Pipeline:
    """All of it in one process; one thread at a time."""

    def __init__(self, folder: Path = MODELS) -> None:
        self.detector = Detector()
        self.stn, self.lprnet = Network(folder / "stn.onnx"), Network(folder / "lprnet.onnx")

    def recognize(self, jpeg: bytes) -> list[str]:
        """The texts of a photo's plates. Raises ValueError."""
        crops = self.detector.detect(decode(jpeg))
        return read(self.lprnet(self.stn(crops))) if len(crops) else []


def decode(jpeg: bytes) -> np.ndarray:
    """UINT8[height, width, 3], RGB. Raises ValueError."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("this is no picture")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read(logits: np.ndarray) -> list[str]:
    """The likeliest text of each crop, the surest first; what is no plate is left out, and what was read twice."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = (odds.max(axis=1) / odds.sum(axis=1)).prod(axis=1)
    texts = []
    for index in np.argsort(-sure):
        text = "".join(ALPHABET[step] for step, _ in groupby(odds[index].argmax(axis=0))).replace("-", "")
        if RUSSIAN.fullmatch(text) and text not in texts:
            texts.append(text)
    return texts
