"""A browser is not to be used against the engine: Origin and Host."""

import pytest

from http_door import Answer, Wire
from serving import Serve, Served

OURS = ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:8000"]
FOREIGN = [
    "example.com",
    "localhost.example.com",
    "127.0.0.1.nip.io",
    "10.0.0.1",
    "[::2]",
    "0.0.0.0",
    "localhost@evil",
    "127.1",
]
GET = "GET /v2 HTTP/1.1\r\n"


def get(served: Served, host: str, *headers: str, target: str = "/v2") -> Answer:
    with served.http.wire() as wire:
        return get_over(wire, host, *headers, target=target)


def get_over(wire: Wire, host: str, *headers: str, target: str = "/v2") -> Answer:
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    wire.send("\r\n".join(lines).encode())
    return wire.answer()


@pytest.mark.parametrize("host", OURS)
def test_host_of_this_machine_is_served(shared: Served, host: str) -> None:
    assert get(shared, host).status == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_other_host_is_refused_on_loopback(shared: Served, host: str) -> None:
    answer = get(shared, host)
    assert (answer.status, answer.code()) == (421, "forbidden_host")
    assert "allowed_hosts" in answer.json()["error"]


def test_other_host_in_an_absolute_target_is_refused(shared: Served) -> None:
    assert get(shared, "localhost", target="http://example.com/v2").status == 421


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_page_of_the_same_host_may_call(shared: Served, scheme: str) -> None:
    assert get(shared, "localhost:8000", f"Origin: {scheme}://localhost:8000").status == 200


@pytest.mark.parametrize(
    "origin",
    ["http://example.com", "http://localhost:3000", "null", "file://", "http://localhost:8000.example.com", ""],
)
@pytest.mark.parametrize("path", ["/v2", "/v2/models/sum/infer", "/metrics", "/v2/repository/models/sum/unload"])
def test_page_of_another_origin_may_not_call(shared: Served, origin: str, path: str) -> None:
    answer = get(shared, "localhost:8000", f"Origin: {origin}", target=path)
    assert (answer.status, answer.code()) == (403, "forbidden_origin")
    assert "access-control-allow-origin" not in answer.headers


def test_listed_hosts_and_origins_are_served(serve: Serve) -> None:
    options = ["--allowed-hosts", "models.example", "--allowed-origins", "https://ui.example"]
    served = serve("echo.py:EchoFp32", options=options)
    assert get(served, "models.example:8000").status == 200
    assert get(served, "localhost", "Origin: https://ui.example").status == 200
    assert get(served, "localhost", "Origin: https://other.example").status == 403
    assert get(served, "other.example").status == 421


def test_any_host_is_served_where_the_bind_is_not_loopback(serve: Serve) -> None:
    served = serve("echo.py:EchoFp32", options=["--host", "0.0.0.0"])
    assert get(served, "models.example").status == 200
    assert get(served, "models.example", "Origin: http://other.example").status == 403
    assert "exposed" in served.stdout_path.read_text()
