"""HTTP/2 as no client library sends it: half words, floods, stalls, and frames of gRPC that are none."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import h2.errors
import h2.events
import numpy as np
import pytest

from grpc_door import SERVICE, raw_request
from h2_wire import GRPC, PREFACE, H2Wire, frame
from protocol.gates import HELD, Begin, row
from serving import Serve, Served
from watching import eventually, metric

LIVE = f"{SERVICE}/ServerLive"
X = np.array([[1.5, -2.0]], np.float32)


@pytest.fixture(scope="module")
def patience() -> float:
    """Seconds that a connection may take for its first words, and stand idle."""
    return 1.0


@pytest.fixture
def hasty(serve: Serve, patience: float) -> Served:
    """An engine without patience."""
    return serve("big.py", options=["--header-timeout-s", str(patience), "--keep-alive-s", str(patience)])


@pytest.fixture
def wire(shared: Served) -> Iterator[H2Wire]:
    with H2Wire(shared.port) as opened:
        yield opened


def still_serves(served: Served) -> None:
    """Whatever happened to a connection, others are served."""
    assert served.http.get("/v2/health/live").status == 200
    assert served.grpc.call("ServerLive").content.live


@pytest.mark.parametrize("start", [b"", PREFACE[:1], PREFACE[:-1]], ids=["nothing", "a letter", "all but one"])
def test_connection_that_does_not_say_what_it_speaks_is_closed(hasty: Served, start: bytes) -> None:
    with H2Wire(hasty.port, start=False) as wire:
        wire.send(start)
        assert wire.ended()


def test_idle_connection_is_told_to_go(hasty: Served) -> None:
    with H2Wire(hasty.port) as wire:
        assert wire.farewell() == h2.errors.ErrorCodes.NO_ERROR


def test_connection_of_a_preface_alone_is_closed(hasty: Served) -> None:
    with H2Wire(hasty.port, start=False) as wire:
        wire.send(PREFACE)
        assert wire.ended()
    still_serves(hasty)


def test_connection_is_idle_from_its_last_answer_on(hasty: Served, patience: float) -> None:
    with H2Wire(hasty.port) as wire:
        began = time.monotonic()
        for _ in range(4):
            headers, _ = wire.answer(wire.call(LIVE, b""))
            assert headers["grpc-status"] == "0"
            time.sleep(patience / 2)  # the time between two requests is what this is about
        assert time.monotonic() - began > patience
        assert wire.farewell() == h2.errors.ErrorCodes.NO_ERROR


def test_answer_that_is_not_read_ends_its_connection(hasty: Served) -> None:
    request = raw_request("grow", {"mebibytes": np.array([[32]], np.int32)}).SerializeToString()
    with H2Wire(hasty.port, window=1) as wire:
        wire.call(f"{SERVICE}/ModelInfer", request)
        wire.wait(h2.events.ResponseReceived)
        assert wire.ended()
        assert not any(isinstance(event, h2.events.StreamEnded) for event in wire.events)
    still_serves(hasty)


def test_socket_that_is_not_read_ends_its_connection(hasty: Served) -> None:
    request = raw_request("grow", {"mebibytes": np.array([[32]], np.int32)}).SerializeToString()
    with H2Wire(hasty.port, window=2**31 - 1) as wire:
        wire.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        wire.flush()
        wire.call(f"{SERVICE}/ModelInfer", request)
        wire.wait(h2.events.ResponseReceived)
        assert open_connections(hasty) == 1
        eventually(lambda: open_connections(hasty) == 0, "the engine ends the connection")
    still_serves(hasty)


def open_connections(served: Served) -> int:
    """Accepted TCP connections of the engine's HTTP port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = f"{served.port:04X}"
    return sum(local.endswith(f":{here}") and state == "01" for _, local, _, state, *_ in rows)


def test_rest_is_served_too(wire: H2Wire) -> None:
    headers, body = wire.answer(wire.open("GET", "/v2", end=True))
    assert (headers[":status"], json.loads(body)["name"]) == ("200", "samovar")
    assert "connection" not in headers
    stream = wire.open("POST", "/v2/models/nothing/infer", {"content-type": "application/json"})
    wire.h2.send_data(stream, b'{"inputs":[]}', end_stream=True)
    wire.flush()
    headers, body = wire.answer(stream)
    assert (headers[":status"], json.loads(body)["code"]) == ("404", "unknown_model")


def test_refused_body_does_not_cost_the_connection(wire: H2Wire) -> None:
    stream = wire.open("POST", "/v2/models/echo_fp32/infer", {"content-type": "text/plain"})
    wire.h2.send_data(stream, b"x" * 1_000)
    wire.flush()
    headers, _ = wire.answer(stream)
    assert headers[":status"] == "415"
    assert wire.answer(wire.call(LIVE, b""))[0]["grpc-status"] == "0"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", "3", "no message"),
        (frame(b"")[:3], "3", "in the middle of its message"),
        (frame(b"abc")[:-1], "3", "ends after 7 bytes"),
        (frame(b"") * 2, "3", "more than one message"),
        (frame(b"") + b"x", "3", "more than one message"),
        (b"{}", "3", "in the middle"),
        (b'{"inputs": []}', "3", "no gRPC message"),
        (b"\x01" + frame(b"abc")[1:], "3", "does not say how"),
        (b"\x00\xff\xff\xff\xff", "8", "larger than the limit"),
        (frame(b"\xff"), "3", "no valid protobuf"),
    ],
)
def test_frames_that_are_none_are_the_clients_fault(wire: H2Wire, body: bytes, status: str, text: str) -> None:
    for method in ("ModelInfer", "ServerLive"):
        headers, _ = wire.answer(wire.call_framed(f"{SERVICE}/{method}", body))
        assert (headers[":status"], headers["grpc-status"]) == ("200", status)
        assert text in headers["grpc-message"]


def test_unknown_compression_is_unimplemented_and_says_which_are_not(wire: H2Wire) -> None:
    headers, _ = wire.answer(wire.call(LIVE, b"", grpc_encoding="snappy"))
    assert (headers["grpc-status"], headers["grpc-accept-encoding"]) == ("12", "identity, deflate, gzip")


def test_get_is_no_call(wire: H2Wire) -> None:
    headers, _ = wire.answer(wire.open("GET", f"/{LIVE}", GRPC, end=True))
    assert (headers["grpc-status"], headers["content-type"]) == ("12", "application/grpc")


def test_deadline_that_has_passed_is_not_run(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32")
    with H2Wire(served.port) as wire:
        request = raw_request("echo_fp32", {"x": X}).SerializeToString()
        headers, _ = wire.answer(wire.call(f"{SERVICE}/ModelInfer", request, grpc_timeout="0n"))
        assert headers["grpc-status"] == "4"
        assert metric(served, "samovar_items_total", model="echo_fp32") == 0
        headers, _ = wire.answer(wire.call(f"{SERVICE}/ModelInfer", request, grpc_timeout="soon"))
        assert headers["grpc-status"] == "3"
        headers, _ = wire.answer(wire.call(f"{SERVICE}/ModelInfer", request, grpc_timeout="5S"))
        assert headers["grpc-status"] == "0"


def test_message_in_single_bytes_is_read(wire: H2Wire) -> None:
    body = frame(raw_request("echo_fp32", {"x": X}).SerializeToString())
    stream = wire.open("POST", f"/{SERVICE}/ModelInfer", GRPC)
    for index, _ in enumerate(body):
        wire.h2.send_data(stream, body[index : index + 1])
    wire.h2.send_data(stream, b"", end_stream=True)
    wire.flush()
    headers, answer = wire.answer(stream)
    assert headers["grpc-status"] == "0"
    assert answer.endswith(X.tobytes())


def test_more_streams_than_allowed_are_refused_and_the_others_answered(gated: Begin) -> None:
    engine = gated("Gate", options=["--max-requests", "1000"])
    held = engine.hold("gate")
    request = frame(raw_request("gate", {"x": row(1)}).SerializeToString())
    with H2Wire(engine.served.port) as wire:
        wire.wait(h2.events.RemoteSettingsChanged)
        assert wire.h2.remote_settings.max_concurrent_streams == 128
        wire.h2.remote_settings[3] = 10_000  # to send what must not be sent
        wire.h2.remote_settings.acknowledge()
        streams = [wire.open("POST", f"/{SERVICE}/ModelInfer", GRPC) for _ in range(129)]
        refused = wire.wait(h2.events.StreamReset, streams[-1])
        assert refused.error_code == h2.errors.ErrorCodes.REFUSED_STREAM
        for stream in streams[:-1]:
            wire.h2.send_data(stream, request, end_stream=True)
        wire.flush()
        engine.release()
        assert {wire.answer(stream)[0]["grpc-status"] for stream in streams[:-1]} == {"0"}
    assert held[0].result().status == 200


def test_header_list_has_a_limit(shared: Served) -> None:
    with H2Wire(shared.port) as wire:
        headers, _ = wire.answer(wire.open("GET", "/v2", {"a": "x" * 17_000}, end=True))
        assert headers[":status"] == "431"
        assert wire.answer(wire.call(LIVE, b""))[0]["grpc-status"] == "0"
    with H2Wire(shared.port) as wire:
        many = {f"a{n}": "x" * 100 for n in range(1_000)}
        wire.open("GET", "/v2", many, end=True)
        while not (wire.has_ended or any(isinstance(event, h2.events.StreamEnded) for event in wire.events)):
            wire.receive()
    still_serves(shared)


def give_up(wire: H2Wire, count: int) -> None:
    """Open so many calls and reset each, all in one writing."""
    head = {":method": "POST", ":scheme": "http", ":authority": "localhost", ":path": f"/{LIVE}"}
    for _ in range(count):
        stream = wire.h2.get_next_available_stream_id()
        wire.h2.send_headers(stream, list({**head, **GRPC}.items()))
        wire.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    wire.flush()


def test_1000_calls_given_up_at_once_are_no_flood(shared: Served) -> None:
    with H2Wire(shared.port) as wire:
        wire.wait(h2.events.RemoteSettingsChanged)
        for _ in range(3):
            give_up(wire, 1_000)
            assert wire.answer(wire.call(LIVE, b""))[0]["grpc-status"] == "0"


def test_rapid_resets_end_their_connection_alone(shared: Served) -> None:
    with H2Wire(shared.port) as wire:
        wire.wait(h2.events.RemoteSettingsChanged)
        try:
            for _ in range(50):  # an engine that is fast enough sees some before their reset
                give_up(wire, 5_000)
            ended = wire.ended()
        except OSError:
            ended = True
        assert ended
    still_serves(shared)


def test_ping_flood_harms_nobody(shared: Served) -> None:
    ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"12345678"
    with H2Wire(shared.port) as wire:
        wire.socket.settimeout(0.5)
        try:
            for _ in range(2_000):
                wire.send(ping * 1_000)
        except (TimeoutError, OSError):
            pass  # it does not read on while its answers are not taken
        still_serves(shared)


def test_words_that_are_no_frames_end_their_connection(shared: Served) -> None:
    for words in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\x00" * 100):
        with H2Wire(shared.port, start=False) as wire:
            wire.send(PREFACE + words)
            assert wire.ended()
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as plain:
        plain.sendall(PREFACE[:-2] + b"xx")
        assert b"HTTP/2" not in plain.recv(1_000)
    still_serves(shared)


def test_client_that_resets_its_call_cancels_it(gated: Begin) -> None:
    engine = gated("Gate")
    with H2Wire(engine.served.port) as wire:
        stream = wire.call(f"{SERVICE}/ModelInfer", raw_request("gate", {"x": HELD}).SerializeToString())
        engine.calls.append(engine.gate.accept()[0])
        wire.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        wire.flush()
        cancelled = {"model": "gate", "stage": "running"}
        eventually(lambda: metric(engine.served, "samovar_cancelled_total", **cancelled) == 1, "it is cancelled")
        assert wire.answer(wire.call(LIVE, b""))[0]["grpc-status"] == "0"


def test_connection_that_breaks_cancels_all_its_calls(gated: Begin) -> None:
    engine = gated("Gate")
    held = engine.hold("gate")
    with H2Wire(engine.served.port) as wire:
        request = raw_request("gate", {"x": row(1)}).SerializeToString()
        for _ in range(5):  # fewer than a full batch, which would be sent ahead
            wire.call(f"{SERVICE}/ModelInfer", request)
        eventually(lambda: engine.waiting("gate") == 5, "they wait")
    eventually(lambda: engine.waiting("gate") == 0, "they are gone")
    assert metric(engine.served, "samovar_cancelled_total", model="gate", stage="queue") == 5
    engine.release()
    assert held[0].result().status == 200
