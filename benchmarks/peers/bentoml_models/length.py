"""The model of the payload benchmark, as somebody writes it who has BentoML."""

from typing import Annotated

import bentoml
from bentoml.validators import ContentType


@bentoml.service
class Length:
    """How many bytes came."""

    @bentoml.api
    async def predict(self, body: Annotated[bytes, ContentType("application/octet-stream")], /) -> int:
        """The parameter is positional: it is the body itself."""
        return len(body)
