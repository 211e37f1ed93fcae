"""A worker that sends or writes garbage costs itself and nobody else."""

import numpy as np
import pytest

from http_door import Answer
from lifecycle.load import Load
from serving import Serve, Served
from watching import eventually, is_ready, metric, pid_of

SOCKET_GARBAGE, HALF_A_FRAME, RING_GARBAGE, FORGED_END = 1, 2, 3, 4


def attack(served: Served, number: int) -> Answer:
    return served.http.infer("hostile", {"attack": np.array([[number]], np.int32)})


@pytest.mark.parametrize(
    ("transport", "number"),
    [
        ("shm", SOCKET_GARBAGE),
        ("inline", SOCKET_GARBAGE),
        ("shm", HALF_A_FRAME),
        ("inline", HALF_A_FRAME),
        ("shm", RING_GARBAGE),
        ("shm", FORGED_END),
        ("inline", FORGED_END),
    ],
)
def test_a_hostile_worker_is_replaced_and_its_neighbour_untouched(serve: Serve, number: int) -> None:
    served = serve("hostile.py", "mortal.py:Mortal")
    neighbour = pid_of(served, "mortal")
    with Load(served.http, "mortal", clients=2) as load:
        for _ in range(2):
            answer = attack(served, number)
            assert answer.status == 200 or (answer.status, answer.code()) == (503, "worker_lost")
            eventually(lambda: attack(served, 0).status == 200, "a new worker answers")
    assert load.wrong() == []
    assert pid_of(served, "mortal") == neighbour
    assert is_ready(served)
    cause = "signal" if number == HALF_A_FRAME else "bad_frame"
    eventually(
        lambda: metric(served, "samovar_worker_restarts_total", model="hostile", cause=cause) == 2, "all are counted"
    )
    assert metric(served, "samovar_panics_total") == 0
