"""The model of the payload benchmark."""

import sys
from typing import Annotated, Any

import litserve
import numpy as np
from fastapi import Body


class Length(litserve.LitAPI):
    """How many bytes came."""

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> np.ndarray:
        return np.frombuffer(request, np.uint8)

    def predict(self, x: np.ndarray) -> int:
        return x.size

    def encode_response(self, output: int) -> dict[str, Any]:
        return {"y": [output]}


if __name__ == "__main__":
    litserve.LitServer(Length()).run(port=int(sys.argv[1]))
