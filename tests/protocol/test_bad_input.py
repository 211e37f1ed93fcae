"""Requests that cannot be served: the same code through every door, a text that helps, and nothing else happens.

Each is sent to a Python model and to an ONNX file with the same signature.
"""

from collections.abc import Iterator

import pytest

from grpc_door import message
from protocol import bad_bodies, bad_messages, bad_requests
from protocol.aftermath import unharmed
from protocol.asking import FORMS, STATUS, Ask, Outcome, of_grpc, of_http
from serving import Served

RUNTIMES = {"python": "", "onnx": "onnx_"}
"""How the names of a runtime's models begin."""


@pytest.fixture(scope="module")
def hostile(suspicious: Served) -> Iterator[Served]:
    """The engine, which must be as it was when all of this is over."""
    with unharmed(suspicious):
        yield suspicious


CASES = [(name, form) for name, bad in bad_requests.TABLE.items() for form in bad.forms if form in FORMS]


def check_words(outcome: Outcome, words: tuple[str, ...]) -> None:
    """A sentence with the fault and the cure, and no more than 256 bytes of the client's data."""
    for word in words:
        assert word in outcome.message
    assert outcome.message[0] == outcome.message[0].lower() or outcome.message.startswith("JSON")
    assert outcome.message.isprintable()
    assert len(outcome.message.encode()) < 500
    assert "z" * 257 not in outcome.message
    assert outcome.id


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("name", "form"), CASES)
def test_request_is_refused_with_its_reason(hostile: Served, name: str, form: str, runtime: str) -> None:
    bad = bad_requests.TABLE[name]
    known = name == "unknown model" or bad.code == "invalid_name"
    model = bad.ask.model if known else RUNTIMES[runtime] + bad.ask.model
    outcome = FORMS[form](hostile, Ask(**{**vars(bad.ask), "model": model}))
    status = STATUS[bad.code][0 if form in ("json", "blobs") else 1]
    assert (outcome.status, outcome.code) == (status, bad.code), outcome.message
    check_words(outcome, bad.words)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", bad_bodies.TABLE)
def test_body_is_refused_with_its_reason(hostile: Served, name: str, runtime: str) -> None:
    bad = bad_bodies.TABLE[name]
    path = f"/v2/models/{RUNTIMES[runtime]}{bad.model}/infer"
    outcome = of_http(hostile.http.request("POST", path, bad.bytes(), bad.headers))
    assert (outcome.status, outcome.code) == (bad.status, bad.code), outcome.message
    check_words(outcome, bad.words)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", bad_messages.TABLE)
def test_message_is_refused_with_its_reason(hostile: Served, name: str, runtime: str) -> None:
    content, words = bad_messages.TABLE[name]
    model = message("ModelInferRequest", model_name=f"{RUNTIMES[runtime]}echo_fp32").SerializeToString()
    outcome = of_grpc(hostile.grpc.infer_bytes(content if name == "JSON" else model + content))
    assert (outcome.status, outcome.code) == ("INVALID_ARGUMENT", "invalid_request"), outcome.message
    check_words(outcome, words)


@pytest.mark.parametrize("name", bad_bodies.TABLE)
def test_connection_serves_on_after_a_bad_body(hostile: Served, name: str) -> None:
    bad = bad_bodies.TABLE[name]
    connection = hostile.http.connect()
    try:
        path = f"/v2/models/{bad.model}/infer"
        assert hostile.http.request("POST", path, bad.bytes(), bad.headers, connection).status == bad.status
        # http.client opens a new connection where the old one was closed; hanging or garbage would fail here.
        assert hostile.http.request("POST", "/v2/models/echo_fp32/infer", bad_bodies.GOOD, {}, connection).status == 200
    finally:
        connection.close()
