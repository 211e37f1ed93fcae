"""Tensors near the bounds."""

import os
from pathlib import Path

import numpy as np
import pytest

from http_door import LENGTH_HEADER
from serving import Serve, both_transports
from watching import resident_kib

MIB = 1 << 20
NEEDED_KIB = 3 * MIB  # client, engine and worker hold the tensor a few times over


def available_kib() -> int:
    """Memory that can be had."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


@both_transports
def test_tensor_of_256_mib_travels_both_ways(serve: Serve) -> None:
    if available_kib() < NEEDED_KIB:
        pytest.skip("takes 3 GiB of memory")
    options = ["--max-body-bytes", str(257 * MIB), "--max-bodies-bytes", str(1024 * MIB)]
    served = serve("big.py:Big", options=options)
    x = np.frombuffer(os.urandom(MIB) * 256, np.uint8).reshape(1, -1)
    answer = served.http.request("POST", "/v2/models/big/infer", x.data, {LENGTH_HEADER: "0"})  # type: ignore[arg-type]
    assert answer.status == 200, answer.body[:500]
    head = int(answer.headers[LENGTH_HEADER.lower()])
    assert memoryview(answer.body)[head:] == x.data.cast("B")


def test_default_limit_refuses_it_before_it_is_read(serve: Serve) -> None:
    served = serve("big.py:Big")
    with served.http.wire() as wire:
        wire.send(b"POST /v2/models/big/infer HTTP/1.1\r\nHost: localhost\r\n")
        wire.send(b"Inference-Header-Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % (256 * MIB))
        assert wire.answer().status == 413


@both_transports
def test_tensor_above_2_gib_is_an_error_that_costs_no_memory(serve: Serve) -> None:
    served = serve("big.py")
    before = resident_kib(served.pid)
    rows = 2048 * MIB + 1
    tensor = {"name": "x", "datatype": "UINT8", "shape": [1, rows], "parameters": {"binary_data_size": rows}}
    refused = served.http.post("/v2/models/big/infer", {"inputs": [tensor]})
    assert (refused.status, refused.code()) == (400, "invalid_request")
    answer = served.http.infer_binary("grow", {"mebibytes": np.array([[2049]], np.int32)})
    assert (answer.status, answer.code()) == (500, "bad_model_output")
    assert "2147483648" in answer.json()["error"]
    assert resident_kib(served.pid) - before < 64 << 10
    assert served.http.infer_binary("grow", {"mebibytes": np.array([[1]], np.int32)}).status == 200
