"""Bodies that come compressed, and answers that go so."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from http_door import LENGTH_HEADER, Answer, json_tensor, to_bytes
from serving import Serve, Served
from watching import metric

INFER = "/v2/models/echo_fp32/infer"
X = np.linspace(0, 1, 600, dtype=np.float32).reshape(3, 200)
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "GZip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}
BODY = json.dumps({"inputs": [json_tensor("x", X)]}).encode()
PACKED = gzip.compress(BODY)


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


def send(served: Served, body: bytes, coding: str, path: str = INFER, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return served.http.request("POST", path, body, {"Content-Encoding": coding, **named})


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code()


@pytest.mark.parametrize("coding", CODINGS)
def test_compressed_json_is_understood(shared: Served, coding: str) -> None:
    np.testing.assert_array_equal(send(shared, CODINGS[coding](BODY), coding).arrays()["output"], X)


def test_deflate_without_zlib_is_understood_as_browsers_do(shared: Served) -> None:
    np.testing.assert_array_equal(send(shared, raw_deflate(BODY), "deflate").arrays()["output"], X)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_length_of_the_json_is_that_before_compression(shared: Served, coding: str) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": X.shape, "parameters": {"binary_data_size": X.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = send(shared, CODINGS[coding](head + to_bytes(X)), coding, **{LENGTH_HEADER: str(len(head))})
    np.testing.assert_array_equal(answer.arrays()["output"], X)


def test_body_may_come_in_any_parts(shared: Served) -> None:
    with shared.http.wire() as wire:
        head = (
            f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunks = [PACKED[at : at + 7] for at in range(0, len(PACKED), 7)]
        wire.send(head.encode(), *[b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks], b"0\r\n\r\n")
        np.testing.assert_array_equal(wire.answer().arrays()["output"], X)


def test_control_requests_may_be_compressed_too(shared: Served) -> None:
    answer = send(shared, gzip.compress(b'{"ready": true}'), "gzip", "/v2/repository/index")
    assert {line["state"] for line in answer.json()} == {"READY"}
    assert send(shared, b"", "gzip", "/v2/repository/index").status == 200


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "gzip, deflate", "compress", "x", ""])
def test_other_codings_are_refused_with_those_that_are_not(shared: Served, coding: str) -> None:
    answer = send(shared, PACKED, coding)
    assert refusal(answer) == (415, "unsupported_media_type")
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert "gzip, deflate or identity" in answer.json()["error"]


def test_refused_content_types_say_nothing_of_codings(shared: Served) -> None:
    answer = shared.http.request("POST", INFER, BODY, {"Content-Type": "text/plain"})
    assert (answer.status, answer.headers.get("accept-encoding")) == (415, None)


@pytest.mark.parametrize(
    ("coding", "body", "words"),
    [
        ("gzip", PACKED[:-1], "ends early"),
        ("gzip", PACKED[:12], "ends early"),
        ("gzip", PACKED + b"\0", "is followed by 1 more bytes"),
        ("gzip", PACKED + PACKED, "send one stream"),
        ("gzip", BODY, "damaged at byte"),
        ("gzip", PACKED[:40] + b"\xff" * 8 + PACKED[48:], "damaged at byte"),
        ("deflate", PACKED, "damaged"),
        ("deflate", zlib.compress(BODY)[:-4], "ends early"),
        ("gzip", zlib.compress(BODY), "damaged"),
    ],
)
def test_damaged_bodies_are_the_clients_fault(shared: Served, coding: str, body: bytes, words: str) -> None:
    answer = send(shared, body, coding)
    assert refusal(answer) == (400, "invalid_request")
    assert words in answer.json()["error"]


def resident(served: Served) -> int:
    """Bytes of the engine in memory at most, so far."""
    status = Path(f"/proc/{served.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bomb_costs_no_more_than_the_limit(serve: Serve, coding: str) -> None:
    served = serve("echo.py:EchoFp32", options=["--max-body-bytes", str(4 << 20)])
    packer = zlib.compressobj(9, wbits=31 if coding == "gzip" else 15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(512)) + packer.flush()
    assert len(bomb) < 1 << 20
    assert served.http.infer("echo_fp32", {"x": X}).status == 200
    before = resident(served)
    for _ in range(4):
        assert refusal(send(served, bomb, coding)) == (413, "payload_too_large")
    assert resident(served) - before <= 8 << 20
    assert metric(served, "samovar_requests_total", code="payload_too_large") == 4
    assert served.http.infer("echo_fp32", {"x": X}).status == 200


def test_limit_is_that_of_the_inflated_body(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", options=["--max-body-bytes", str(len(BODY))])
    assert send(served, PACKED, "gzip").status == 200
    answer = send(served, gzip.compress(BODY + b" "), "gzip")
    assert refusal(answer) == (413, "payload_too_large")
    assert f"{len(BODY)} bytes" in answer.json()["error"]


def accepting(served: Served, codings: str, x: np.ndarray = X) -> Answer:
    body = json.dumps({"inputs": [json_tensor("x", x)]}).encode()
    return served.http.request("POST", INFER, body, {"Accept-Encoding": codings})


def test_answers_go_as_they_are_by_default(shared: Served) -> None:
    answer = accepting(shared, "gzip, deflate")
    assert "content-encoding" not in answer.headers
    np.testing.assert_array_equal(answer.arrays()["output"], X)


def test_answers_are_compressed_where_both_sides_want_it(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", options=["--compress-responses"])
    plain = accepting(served, "identity")
    unpack: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
    for codings, coding in [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate;q=0.5, gzip;q=0.7, br", "gzip"),
        ("*", "gzip"),
    ]:
        answer = accepting(served, codings)
        assert answer.headers["content-encoding"] == coding
        assert answer.headers["vary"] == "accept-encoding"
        assert len(answer.body) == int(answer.headers["content-length"]) < len(plain.body)
        assert json.loads(unpack[coding](answer.body)) == plain.json()
    for codings in ("br", "gzip;q=0", "identity, gzip;q=0.5", ""):
        answer = accepting(served, codings)
        assert "content-encoding" not in answer.headers
        assert answer.body == plain.body
    assert "content-encoding" not in accepting(served, "gzip", X[:1, :2]).headers, "too small to be worth it"
    assert (
        served.http.request("GET", "/metrics", None, {"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"
    )
