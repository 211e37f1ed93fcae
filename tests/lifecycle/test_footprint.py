"""What an engine takes when it does nothing, and gives back after it did something."""

import numpy as np

from serving import Serve
from watching import descriptors, eventually, metric, pid_of, resident_kib, threads

IDLE_KIB = 45_000_000 // 1024


def test_an_idle_engine_is_small(serve: Serve) -> None:
    served = serve("mortal.py:Mortal")
    assert pid_of(served, "mortal")
    assert resident_kib(served.pid) < IDLE_KIB


def test_large_tensors_leave_no_memory_behind(serve: Serve) -> None:
    served = serve("big.py:Big")
    x = np.ones((1, 64 << 20), np.uint8)
    before = resident_kib(served.pid)
    for _ in range(4):
        assert served.http.infer_binary("big", {"x": x}).status == 200
    after = eventually(
        lambda: (kib := resident_kib(served.pid)) < before + 160 * 1024 and kib, "at most the retained segments stay"
    )
    assert after
    assert metric(served, "samovar_in_flight", model="big") == 0


def test_connections_and_requests_leave_no_descriptor_behind(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32")
    x = {"x": np.ones((1, 4), np.float32)}
    assert served.http.infer("echo_fp32", x).status == 200
    eventually(lambda: len(served.workers()) == 2, "the spare worker is there")
    before = descriptors(served.pid), threads(served.pid)
    for _ in range(200):
        assert served.http.infer("echo_fp32", x).status == 200
    eventually(lambda: descriptors(served.pid) <= before[0], "every connection is closed")
    assert threads(served.pid) == before[1]
