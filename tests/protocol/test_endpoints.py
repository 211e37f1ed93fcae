"""Every path of the HTTP door with its methods: what it answers, and what it does not."""

import pytest

from serving import Served

METADATA = {
    "name": "mixed",
    "versions": ["1"],
    "platform": "python",
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [-1, -1]},
        {"name": "name", "datatype": "BYTES", "shape": [-1, 1]},
    ],
    "outputs": [
        {"name": "doubled", "datatype": "FP32", "shape": [-1, -1]},
        {"name": "width", "datatype": "INT32", "shape": [-1]},
        {"name": "text", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "cube", "datatype": "INT64", "shape": [-1, 2, 2]},
    ],
}
READABLE = [
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/mixed",
    "/v2/models/mixed/ready",
    "/v2/models/mixed/versions/1",
    "/v2/models/mixed/versions/1/ready",
    "/v2/models/mixed/config",
    "/v2/models/mixed/versions/1/config",
    "/v2/models/mixed/stats",
    "/v2/models/mixed/versions/1/stats",
    "/v2/models/stats",
    "/metrics",
]
POSTED = [
    "/v2/models/mixed/infer",
    "/v2/models/mixed/versions/1/infer",
    "/v2/repository/index",
    "/v2/repository/models/mixed/load",
    "/v2/repository/models/mixed/unload",
]
NOWHERE = [
    "/",
    "/v1",
    "/v2/",
    "/v2/models",
    "/v2/health",
    "/v2/health/started",
    "/v2/models/mixed/",
    "/v2/models/mixed/versions",
    "/v2/models/mixed/versions/1/infer/",
    "/v2/repository/models/mixed",
    "/V2",
    "//v2",
    "/metrics/",
]


def test_server_metadata_names_the_extensions(shared: Served) -> None:
    answer = shared.http.get("/v2")
    assert answer.headers["content-type"] == "application/json"
    metadata = answer.json()
    assert metadata["name"] == "samovar"
    assert metadata["version"]
    wanted = {"binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics"}
    assert wanted == set(metadata["extensions"])


@pytest.mark.parametrize("path", ["/v2/models/mixed", "/v2/models/mixed/versions/1", "/v2/models/mixed?verbose=1"])
def test_model_metadata_is_the_signature(shared: Served, path: str) -> None:
    assert shared.http.get(path).json() == METADATA


@pytest.mark.parametrize("path", ["nobatch", "scalar"])
def test_metadata_without_a_batch_axis_has_the_declared_axes_alone(shared: Served, path: str) -> None:
    wanted = {"nobatch": ([2, 2], [1]), "scalar": ([], [])}[path]
    metadata = shared.http.get(f"/v2/models/{path}").json()
    assert (metadata["inputs"][0]["shape"], metadata["outputs"][0]["shape"]) == wanted


@pytest.mark.parametrize("path", READABLE)
def test_what_can_be_read_answers_head_with_the_same_head(shared: Served, path: str) -> None:
    read, head = shared.http.get(path), shared.http.request("HEAD", path)
    assert (read.status, head.status, head.body) == (200, 200, b"")
    assert head.headers.get("content-type") == read.headers.get("content-type")


@pytest.mark.parametrize("path", [path for path in READABLE if path.endswith(("live", "ready"))])
def test_health_has_no_body(shared: Served, path: str) -> None:
    assert shared.http.get(path).body == b""


@pytest.mark.parametrize("path", READABLE)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused_where_one_reads(shared: Served, path: str, method: str) -> None:
    answer = shared.http.request(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.code() == "method_not_allowed"
    assert method in answer.json()["error"]


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_are_refused_where_one_posts(shared: Served, path: str, method: str) -> None:
    answer = shared.http.request(method, path)
    assert (answer.status, answer.headers["allow"], answer.code()) == (405, "POST", "method_not_allowed")


@pytest.mark.parametrize("path", NOWHERE)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_paths_are_404(shared: Served, path: str, method: str) -> None:
    answer = shared.http.request(method, path)
    assert (answer.status, answer.code()) == (404, "not_found")


@pytest.mark.parametrize("verb", ["", "/ready", "/config", "/stats", "/infer"])
@pytest.mark.parametrize(
    ("path", "code"),
    [("nothing", "unknown_model"), ("nothing/versions/1", "unknown_model"), ("sum/versions/2", "unknown_version")],
)
def test_models_and_versions_that_are_not_there_are_404(shared: Served, path: str, code: str, verb: str) -> None:
    body = b'{"inputs":[]}' if verb == "/infer" else None
    answer = shared.http.request("POST" if body else "GET", f"/v2/models/{path}{verb}", body)
    assert (answer.status, answer.code()) == (404, code)


def test_error_bodies_have_text_code_and_id(shared: Served) -> None:
    answers = [shared.http.get("/v2/models/nothing") for _ in range(2)]
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) == {"error", "code", "id"}
    assert answers[0].json()["id"] != answers[1].json()["id"]


def test_index_lists_every_model_with_its_state(shared: Served) -> None:
    for body in (None, b"{}", b'{"ready":true}', b'{"ready":false}'):
        index = shared.http.request("POST", "/v2/repository/index", body).json()
        assert {"name": "sum", "version": "1", "state": "READY", "reason": ""} in index
        assert len(index) == len({line["name"] for line in index}) == len(shared.ready["models"])


@pytest.mark.parametrize("body", [b'{"ready":1}', b"[1]", b"x", b'{"ready":' + b"[" * 100_000])
def test_index_refuses_what_is_no_index_request(shared: Served, body: bytes) -> None:
    answer = shared.http.request("POST", "/v2/repository/index", body)
    assert (answer.status, answer.code()) == (400, "invalid_request")
    assert len(answer.body) < 1_000
