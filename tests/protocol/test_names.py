"""Names in paths: looked up in the engine's own index, never anywhere else, whatever they spell."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
from grpc import StatusCode

from commands import run
from grpc_door import message
from http_door import Answer
from protocol.asking import FORMS, STATUS, Ask, Outcome, of_grpc, of_http
from serving import Served

TRAVERSAL = [
    "..",
    ".",
    "../sum",
    "..%2fsum",
    "%2e%2e",
    "%2e%2e%2fsum",
    "..%5csum",
    "%2fetc%2fpasswd",
    ".sum",
    "%252e%252e",
]
CHARACTERS = [
    "a%20b",
    "a%00",
    "%00",
    "a%0ab",
    "a%0d%0ab",
    "a%2fb",
    "a%5cb",
    "s%75m%",
    "%zz",
    "a%2",
    "a:b",
    "a*",
    "a~b",
    "-sum",
]
UNICODE = ["gr%C3%BC%C3%9Fe", "%E4%B8%96", "%ff%fe", "s%EF%BD%95m", "%F0%9F%98%80", "su%CC%88m"]
LONG = ["n" * 256, "n" * 5_000]
ANSWERED = [*CHARACTERS, *UNICODE, *LONG]
PATHS = [
    "/v2/models/{}",
    "/v2/models/{}/ready",
    "/v2/models/sum/versions/{}",
    "/v2/models/{}/infer",
    "/v2/repository/models/{}/load",
]


def ask(served: Served, path: str, name: str) -> Answer:
    filled = path.format(name)
    return served.http.request("POST" if filled.endswith(("infer", "load")) else "GET", filled)


@pytest.mark.parametrize("name", ANSWERED, ids=lambda name: name[:20])
@pytest.mark.parametrize("path", PATHS)
def test_name_that_none_can_have_is_refused(shared: Served, path: str, name: str) -> None:
    answer = ask(shared, path, name)
    assert (answer.status, answer.code()) == (400, "invalid_name")
    assert len(answer.body) < 700


@pytest.mark.parametrize("name", TRAVERSAL)
@pytest.mark.parametrize("path", PATHS)
def test_traversal_finds_nothing(shared: Served, path: str, name: str) -> None:
    answer = ask(shared, path, name)
    assert (answer.status, answer.code()) in ((400, "invalid_name"), (404, "not_found"))


@pytest.mark.parametrize(
    "name", ["n" * 255, "SUM", "Sum", "sum_", "sum.", "sum-1", "_", "0", "v2", "metrics", "__init__"]
)
def test_name_that_nobody_has_is_unknown(shared: Served, name: str) -> None:
    answer = shared.http.get(f"/v2/models/{name}")
    assert (answer.status, answer.code()) == (404, "unknown_model")
    answer = shared.http.get(f"/v2/models/sum/versions/{name}")
    assert (answer.status, answer.code()) == (404, "unknown_version")


@pytest.mark.parametrize("name", ["sum", "s%75m", "%73%75%6D", "sum?..=%00"])
def test_name_is_read_percent_decoded(shared: Served, name: str) -> None:
    assert shared.http.get(f"/v2/models/{name}").json()["name"] == "sum"


@pytest.mark.parametrize("path", ["/v2/models/su\xfcm", "/v2/models/\x01", "/v2/models/\x00", "/v2 /x", "http://[::1"])
def test_target_that_is_no_target_is_refused(shared: Served, path: str) -> None:
    with shared.http.wire() as wire:
        wire.send(b"GET ", path.encode("latin-1"), b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.answer().status == 400


@pytest.mark.parametrize("target", ["http://localhost/v2/models/sum", "HTTP://127.0.0.1:8000/v2/models/sum"])
def test_target_in_absolute_form_is_taken(shared: Served, target: str) -> None:
    with shared.http.wire() as wire:
        wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert wire.answer().json()["name"] == "sum"


NO_NAMES = {
    "parent": "..",
    "itself": ".",
    "sibling": "../sum",
    "ancestor": "../../../../etc/passwd",
    "below": "sum/../sum",
    "root": "/etc/passwd",
    "Windows": "..\\sum",
    "percent spelling": "%2e%2e%2fsum",
    "percent twice": "%252e%252e",
    "URL": "http://127.0.0.1:1/model.onnx",
    "home": "~root",
    "variable": "$HOME",
    "command": "$(id)",
    "wildcard": "*",
    "dot in front": ".sum",
    "dash in front": "-sum",
    "space": "su m",
    "space behind": "sum ",
    "zero": "sum\0",
    "zero and a suffix": "sum\0.onnx",
    "line feed": "sum\n",
    "escape": "\x1b[31msum",
    "fullwidth": "s\uff55m",
    "fullwidth dots": "\uff0e\uff0e",
    "one dot leaders": "\u2024\u2024",
    "two dot leader": "\u2025",
    "division slash": "..\u2215sum",
    "combining": "su\u0308m",
    "from right to left": "su\u202em",
    "zero width": "su\u200bm",
    "emoji": "\U0001f600",
    "256 letters": "n" * 256,
    "5,000 letters": "n" * 5_000,
}


def http_asks(served: Served, name: str) -> list[Callable[[], Answer]]:
    """Everything that takes the name of a model or version."""
    http, spelt = served.http, quote(name, safe="")
    paths = [
        *(f"/v2/models/{spelt}{rest}" for rest in ("", "/ready", "/config", "/stats", "/versions/1")),
        *(f"/v2/models/sum/versions/{spelt}{rest}" for rest in ("", "/ready", "/config", "/stats")),
    ]
    posted = [f"/v2/repository/models/{spelt}/{verb}" for verb in ("load", "unload")]
    return [
        *(lambda path=path: http.get(path) for path in paths),
        *(lambda path=path: http.post(path, {}) for path in posted),
    ]


@pytest.mark.parametrize("kind", NO_NAMES)
def test_name_that_none_can_have_is_refused_by_every_method(suspicious: Served, kind: str) -> None:
    name, grpc = NO_NAMES[kind], suspicious.grpc
    http, wanted = STATUS["invalid_name"]
    listed = suspicious.http.post("/v2/repository/index", {}).json()
    outcomes = [of_http(ask()) for ask in http_asks(suspicious, name)]
    for method in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
        outcomes += [of_grpc(grpc.call(method, name)), of_grpc(grpc.call(method, "sum", name))]
    outcomes += [of_grpc(grpc.call(f"RepositoryModel{verb}", name)) for verb in ("Load", "Unload")]
    for form in FORMS.values():
        outcomes += [form(suspicious, Ask(model=name)), form(suspicious, Ask(version=name))]
    for outcome in outcomes:
        if kind in ("parent", "itself") and outcome.status == 404:  # a path may be taken as written
            assert outcome.code == "not_found"
            continue
        assert (outcome.status, outcome.code) in ((http, "invalid_name"), (wanted, "invalid_name")), outcome
        check_quoted(outcome, name)
    assert suspicious.http.post("/v2/repository/index", {}).json() == listed


def check_quoted(outcome: Outcome, name: str) -> None:
    """The name is in the text as far as it may be, and nothing that a terminal would act on."""
    assert outcome.message.isprintable()
    assert len(outcome.message.encode()) < 400
    assert "n" * 129 not in outcome.message
    if name.isascii() and name.isalnum() and len(name) < 100:
        assert name in outcome.message


@pytest.mark.parametrize("kind", NO_NAMES)
def test_health_of_a_name_that_none_can_have_is_refused(suspicious: Served, kind: str) -> None:
    request = message("grpc.health.v1.HealthCheckRequest", service=NO_NAMES[kind])
    reply = suspicious.grpc.send("grpc.health.v1.Health/Check", request.SerializeToString())
    assert (reply.status, reply.code()) in (
        (StatusCode.INVALID_ARGUMENT, "invalid_name"),
        (StatusCode.NOT_FOUND, "unknown_model"),
    )


@pytest.mark.parametrize("kind", [kind for kind, name in NO_NAMES.items() if "\0" not in name])
def test_commands_refuse_a_name_that_none_can_have(suspicious: Served, kind: str) -> None:
    name, url = NO_NAMES[kind], ("--url", f"http://127.0.0.1:{suspicious.port}")
    for words in (("models", "load"), ("models", "unload"), ("models", "ready"), ("models", "show"), ("infer",)):
        rest = ("-i", "x=[[1]]") if words == ("infer",) else ()
        ran = run(*words, *url, *rest, "--", name)
        assert ran.code in (1, 2), (words, ran)
        assert "Traceback" not in ran.err
        assert ran.out == ""
        assert len(ran.err) < 600
        assert ran.err.replace("\n", "").isprintable()
