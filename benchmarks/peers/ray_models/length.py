"""The model of the payload benchmark, as somebody writes it who has Ray Serve."""

from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=1000)
class Length:
    """How many bytes came."""

    async def __call__(self, request: Request) -> int:
        """The body is what it is."""
        return len(await request.body())


app = Length.bind()
