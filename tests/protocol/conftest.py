"""One engine for all tests that only ask questions: starting one for each would take longer than the questions."""

import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import models
from protocol.aftermath import MAX_BODY_BYTES
from protocol.asking import FORMS, Ask, Tensor
from protocol.gates import Begin, Gated
from serving import Serve, Served
from sharing import kept, start

TARGETS = ("echo.py", "sum.py", "nobatch.py", "raising.py", "wrong.py", "forms.py", "people.py")
SERVICES = ("typed.py", "mounted.py", "sockets.py", "streaming.py")
ECHOES = {"Fp32": "FLOAT", "Fp64": "DOUBLE", "Int8": "INT8", "Uint8": "UINT8", "Bool": "BOOL", "Bytes": "STRING"}


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """An engine with the models of TARGETS per transport. No question may cost a worker its life."""
    with kept(TARGETS, tmp_path_factory) as engine:
        yield engine


@pytest.fixture(scope="session")
def service_engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """The same with the services of SERVICES."""
    with kept(SERVICES, tmp_path_factory) as engine:
        yield engine


@pytest.fixture(scope="session")
def suspicious(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An engine for bad input: each Python model in it has a twin with the same signature in an ONNX file."""
    targets = [f"echo.py:Echo{datatype}" for datatype in ECHOES] + ["sum.py", "nobatch.py", "neighbour.py"]
    folder = tmp_path_factory.mktemp("suspicious")
    options = ["--control", "explicit", "--max-body-bytes", str(MAX_BODY_BYTES)]
    served = start([*targets, *write_twins(folder)], folder, "shm", *options)
    try:
        for model in ("echo_fp32", "onnx_echo_fp32"):  # what is used for the first time takes memory
            for form in FORMS.values():
                form(served, Ask(model=model, inputs=[Tensor(shape=[1, 200_000], values=[0] * 200_000)]))
        yield served
        assert served.stop() == 0, served.output()
    finally:
        served.destroy()


def write_twins(folder: Path) -> list[str]:
    """The ONNX files of `suspicious`."""
    shape = ("batch", "n")
    paths = [
        models.echo(folder / f"onnx_echo_{datatype.lower()}.onnx", kind, shape) for datatype, kind in ECHOES.items()
    ]
    sums = [models.node("Add", ["a", "b"], ["total"]), models.node("Sub", ["a", "b"], ["difference"])]
    inputs, outputs = [[(name, "FLOAT", shape) for name in pair] for pair in (("a", "b"), ("total", "difference"))]
    paths.append(models.write(folder / "onnx_sum.onnx", sums, inputs, outputs))
    matrix, output = (("matrix", "DOUBLE", (2, 2)), ("output", "DOUBLE", (2, 2)))
    nodes = [models.node("Identity", ["matrix"], ["output"])]
    paths.append(models.write(folder / "onnx_nobatch.onnx", nodes, [matrix], [output]))
    paths.append(models.scale(folder / "onnx_neighbour.onnx"))
    return [str(path) for path in paths]


@pytest.fixture(params=["shm", "inline"])
def everywhere(request: pytest.FixtureRequest, engines: Callable[[str], Served]) -> Served:
    """The engine with the models of TARGETS, over each transport."""
    return engines(request.param)


@pytest.fixture
def shared(engines: Callable[[str], Served]) -> Served:
    """The same over shared memory alone, for what has nothing to do with transports."""
    return engines("shm")


@pytest.fixture(params=["shm", "inline"])
def services(request: pytest.FixtureRequest, service_engines: Callable[[str], Served]) -> Served:
    """The engine with the services of SERVICES, over each transport."""
    return service_engines(request.param)


@pytest.fixture
def service(service_engines: Callable[[str], Served]) -> Served:
    """The same over shared memory alone."""
    return service_engines("shm")


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that are to wait while the test goes on."""
    with ThreadPoolExecutor(48) as threads:
        yield threads


@pytest.fixture
def gated(serve: Serve, background: ThreadPoolExecutor) -> Iterator[Begin]:
    """Start an engine for models of apps/calls_held.py, whose calls wait for the test."""
    name = f"test-gate-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as gate:
        gate.bind("\0" + name)
        gate.listen(64)
        gate.settimeout(30)
        started: list[Gated] = []

        def begin(*models: str, options: list[str] | None = None) -> Gated:
            targets = [f"calls_held.py:{model}" for model in models]
            served = serve(*targets, options=options or [], environment={"GATE": name})
            started.append(Gated(served, gate, background))
            return started[-1]

        yield begin
        for engine in started:
            engine.release()
