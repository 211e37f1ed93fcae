"""The pipeline of examples/plates, as somebody writes it who has BentoML.

Three services that depend on each other, a process each, took twice the memory and a fifth more processor; one service
was as fast or faster.
"""

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from plates_plain import Pipeline


@bentoml.service
class Plates:
    """One service holds all three models."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(Path(__file__).parent)

    @bentoml.api
    def recognize(self, photo: Annotated[bytes, ContentType("image/jpeg")], /) -> list[str]:
        """The texts of a photo's plates."""
        return self.pipeline.recognize(photo)
