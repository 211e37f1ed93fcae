"""The model of the rows of faults, as somebody writes it who has Ray Serve."""

import checked_plain
import numpy as np
from ray import serve
from starlette.requests import Request


@serve.deployment(ray_actor_options={"num_cpus": 0.25})  # four replicas on two cores; one takes one by default
class Checked:
    """See checked_plain."""

    async def __call__(self, request: Request) -> np.ndarray:
        """It blocks, as the model is one: a replica runs one request at a time."""
        return checked_plain.run(np.array((await request.json())["x"]))


app = Checked.bind()
