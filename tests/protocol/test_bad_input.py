"""Requests that cannot be served: the status and code that say so, and a text that helps."""

import json

import pytest

from http_door import Answer
from protocol.bad_requests import GOOD, TABLE, Bad
from serving import Served


def send(served: Served, bad: Bad) -> Answer:
    body = json.dumps(bad.content).encode() if bad.body is None else bad.body
    return served.http.request("POST", f"/v2/models/{bad.model}/infer", body, bad.headers)


@pytest.mark.parametrize("name", TABLE)
def test_bad_request_is_refused_with_its_reason(shared: Served, name: str) -> None:
    bad = TABLE[name]
    answer = send(shared, bad)
    error = answer.json()
    assert (answer.status, error["code"]) == (bad.status, bad.code), error
    for word in bad.words:
        assert word in error["error"]
    assert error["error"][0] == error["error"][0].lower() or error["error"].startswith("JSON")
    assert len(error["error"].encode()) < 700  # 256 bytes of the client's data at most
    assert "z" * 257 not in error["error"]


@pytest.mark.parametrize("name", TABLE)
def test_connection_serves_on_after_a_bad_request(shared: Served, name: str) -> None:
    bad = TABLE[name]
    body = json.dumps(bad.content).encode() if bad.body is None else bad.body
    connection = shared.http.connect()
    try:
        path = f"/v2/models/{bad.model}/infer"
        assert shared.http.request("POST", path, body, bad.headers, connection).status == bad.status
        # http.client opens a new connection where the old one was closed; hanging or garbage would fail here.
        assert shared.http.request("POST", "/v2/models/echo_fp32/infer", GOOD, {}, connection).status == 200
    finally:
        connection.close()
